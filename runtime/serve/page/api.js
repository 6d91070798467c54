// Shows openapi.json for people.
const make = (tag, text = "", ...inner) => {
  const found = Object.assign(document.createElement(tag), { textContent: text.replaceAll("`", "") });
  found.append(...inner);
  return found;
};
const table = (head, rows) => {
  const found = document.createElement("table");
  found.createTHead().append(make("tr", "", ...head.map((text) => make("th", text))));
  found.createTBody().append(...rows.map((cells) => make("tr", "", ...cells.map((text) => make("td", text)))));
  return make("div", "", found);
};
const kind = ({ type = "string", enum: choices, default: value }) => (choices ? choices.join(", ") : type) + (value === undefined ? "" : `; default ${value}`);

const api = await (await fetch("openapi.json")).json();
const sections = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, about]) => make(
  "section", "",
  make("h2", `${about.responses["101"] ? "WS" : method.toUpperCase()} ${path}`),
  make("p", `${about.summary}. ${about.description ?? ""}`),
  ...(about.parameters ? [table(["Parameter", "Values", "Meaning"], about.parameters.map((one) => [one.name, kind(one.schema), one.description]))] : []),
  table(["Status", "Meaning"], Object.entries(about.responses).map(([status, one]) => [status, one.description])),
)));
document.getElementById("paths").replaceChildren(make("p", api.info.description), ...sections);
