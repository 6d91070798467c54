// Files go to POST /v1/score, the microphone to WS /v1/stream; both answer with the JSON lines of docs/stream.md.
import { Course, draw } from "./plot.js";

const RATE = 16000;
const WAITING = 8 * 2 * RATE; // bytes that may wait in the socket, 8 s: then the newest sound is dropped here
const NAMES = { bonafide: "bona fide", "no-voice": "no voice", "too-short": "too short", "warming-up": "warming up" };
const find = (id) => document.getElementById(id);
const text = (id, value) => { find(id).textContent = value; };
const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

let token = "", shown = new Course(), live = null;

// ---- what is shown

function showState(state) {
  const heading = find("state"), name = NAMES[state] || state;
  if (heading.dataset.state === state && heading.textContent === name) return; // a screen reader announces changes
  heading.dataset.state = state;
  heading.textContent = name;
}

function showSegments(segments) {
  const items = segments.map((one) => {
    const item = document.createElement("li");
    item.textContent = `${one.start.toFixed(1)}–${one.end.toFixed(1)} s, peak P ${one.peak.toFixed(2)}`;
    return item;
  });
  if (!items.length) items.push(Object.assign(document.createElement("li"), { textContent: "none" }));
  find("segments").replaceChildren(...items);
}

function showFigures(p, llr, voice, level, flags) {
  text("p", number(p));
  text("llr", number(llr));
  text("voice", voice);
  text("dbfs", level === null ? "–" : `${level.toFixed(0)} dBFS`);
  find("level").value = level === null ? -80 : level;
  text("flags", flags.length ? flags.join(", ") : "none");
}

function redraw() {
  requestAnimationFrame(() => draw(find("plot"), shown, live !== null));
}

function message(words) {
  text("message", words);
}

function take(course, line) {
  if (line.type === "start") course.claims = [line.bonafide_to, line.spoof_from];
  else if (line.type === "verdict") {
    course.verdicts.push({ t: line.t, state: line.state, p: line.p_spoof });
    course.level = line.level;
    const last = course.segments.at(-1); // of a live stream, until the summary has the corrected ones
    if (line.state === "spoof") {
      if (last && last.open) last.end = line.t;
      else course.segments.push({ start: line.t, end: line.t, peak: line.p_spoof, open: true });
      course.segments.at(-1).peak = Math.max(course.segments.at(-1).peak, line.p_spoof);
    } else if (last) last.open = false;
    if (course === shown) {
      showState(line.state);
      showFigures(line.p_spoof, line.llr_mean, `${line.voiced.toFixed(1)} s in window`, line.level, line.flags);
      if (live) showSegments(course.segments);
    }
  } else if (line.type === "gap") {
    course.gaps.push({ t: line.t, lost: line.lost });
    message(`${line.lost.toFixed(1)} s of sound were dropped: the service or the connection is too slow`);
  } else if (line.type === "summary") {
    course.summary = line;
    course.segments = line.segments;
  } else if (line.type === "error" || line.type === "note") message(line.text);
}

function showSummary(course) {
  const line = course.summary;
  shown = course;
  showState(line.state);
  text("source", `${line.source}${line.channel ? ` (${line.channel} channel)` : ""}: ${line.seconds.toFixed(1)} s`);
  const flags = Object.entries(line.flags).map(([flag, share]) => (share < 1 ? `${flag} ${Math.round(100 * share)} %` : flag));
  showFigures(line.p_spoof, line.llr, `${line.voiced.toFixed(1)} of ${line.seconds.toFixed(1)} s`, course.level ?? null, flags);
  showSegments(line.segments);
  redraw();
}

function addRow(course) {
  const line = course.summary, row = document.createElement("tr");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: line.source });
  button.setAttribute("aria-label", `Show ${line.source}`);
  button.addEventListener("click", () => { showSummary(course); find("result").focus(); });
  const cells = [
    button, (NAMES[line.state] || line.state) + (line.channel ? ` (${line.channel})` : ""), number(line.p_spoof), number(line.llr),
    `${line.voiced.toFixed(1)} of ${line.seconds.toFixed(1)} s`,
    line.segments.map((one) => `${one.start.toFixed(1)}–${one.end.toFixed(1)} s`).join(", ") || "none",
  ];
  for (const cell of cells) row.insertCell().append(cell);
  row.cells[1].dataset.state = line.state;
  find("rows").prepend(row);
}

function addError(name, words) {
  const row = find("rows").insertRow(0);
  row.insertCell().textContent = name;
  const cell = row.insertCell();
  cell.colSpan = 5;
  cell.textContent = words;
}

// ---- files

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: token ? { Authorization: `Bearer ${token}` } : {} });
  find("token-form").hidden = answer.status !== 401;
  if (answer.status === 401) find("token").focus();
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error || `the service answered ${answer.status}`);
  }
  return answer;
}

async function waveform(course, file) {
  try { // for the picture alone; the service decodes by itself
    const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
    course.addSound(sound.getChannelData(0), sound.sampleRate);
  } catch { /* a format that this browser cannot decode has no waveform */ }
}

async function score(file) {
  message("");
  text("source", `${file.name}: being scored …`);
  try {
    const answer = await call(`v1/score?verdicts=true&name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    const lines = (await answer.text()).trim().split("\n").map((line) => JSON.parse(line));
    const worst = lines.find((line) => line.type === "file");
    const course = new Course();
    for (const line of lines) if (!worst || line.channel === worst.channel) take(course, line);
    await waveform(course, file);
    addRow(course);
    showSummary(course);
  } catch (error) {
    text("source", "");
    addError(file.name, error.message);
    message(`${file.name}: ${error.message}`);
  }
}

async function scoreAll(files) {
  if (live) await stop();
  for (const file of files) await score(file); // one after the other: a service has few processes for files
}

// ---- microphone

function explain(error) {
  if (!window.isSecureContext || !navigator.mediaDevices)
    return "The browser gives the microphone only to pages of HTTPS or localhost: start the service with --tls-cert and --tls-key.";
  if (error.name === "NotAllowedError") return "The microphone was refused: allow it for this page in the browser's settings.";
  if (error.name === "NotFoundError") return "No microphone was found.";
  return `The microphone cannot be opened: ${error.message}`;
}

async function start() {
  message("");
  const course = new Course(), session = { course, stopping: false };
  try {
    if (!navigator.mediaDevices) throw new Error("no microphone");
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
    session.media = await navigator.mediaDevices.getUserMedia({ audio: plain });
    try {
      session.audio = new AudioContext({ sampleRate: RATE }); // the browser resamples
      session.source = session.audio.createMediaStreamSource(session.media);
    } catch { // some browsers refuse another rate than the microphone's: then the service resamples
      session.audio?.close();
      session.audio = new AudioContext();
      session.source = session.audio.createMediaStreamSource(session.media);
    }
    await session.audio.audioWorklet.addModule("worklet.js");
  } catch (error) {
    session.media?.getTracks().forEach((track) => track.stop());
    session.audio?.close();
    message(explain(error));
    return;
  }
  const address = new URL(`v1/stream?name=microphone&rate=${session.audio.sampleRate}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  session.socket = new WebSocket(address, token ? ["shrike", `bearer.${token}`] : ["shrike"]);
  session.socket.addEventListener("message", (event) => { take(course, JSON.parse(event.data)); redraw(); });
  session.closed = new Promise((resolve) => session.socket.addEventListener("close", resolve));
  session.closed.then((event) => finish(session, event));
  const tap = new AudioWorkletNode(session.audio, "tap");
  tap.port.onmessage = ({ data }) => {
    if (session.stopping || session.socket.readyState !== WebSocket.OPEN) return;
    course.addSound(data, session.audio.sampleRate);
    if (session.socket.bufferedAmount > WAITING) return message("Sound is dropped here: the connection is too slow.");
    session.socket.send(Int16Array.from(data, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32768)))));
    redraw();
  };
  session.source.connect(tap);
  shown = course;
  live = session;
  find("mic").setAttribute("aria-pressed", "true");
  text("mic-label", "Stop microphone");
  text("source", "microphone");
  showState("no-voice");
  showSegments([]);
}

async function stop() {
  const session = live;
  if (!session) return;
  session.stopping = true;
  if (session.socket.readyState === WebSocket.OPEN) session.socket.send('{"type": "end"}');
  else session.socket.close();
  await session.closed;
}

function finish(session, event) {
  session.media.getTracks().forEach((track) => track.stop());
  session.audio.close();
  live = null;
  find("mic").setAttribute("aria-pressed", "false");
  text("mic-label", "Start microphone");
  if (session.course.summary) {
    addRow(session.course);
    showSummary(session.course);
  } else message(event.reason || find("message").textContent || "The connection to the service ended.");
}

// ---- events

async function connect() {
  try {
    const about = await (await call("v1/models")).json();
    text("models", `Shrike ${about.version}; files: ${about.score}, microphone: ${about.stream}; at most ${Math.round(about.limits.upload_bytes / 1e6)} MB a file.`);
    message("");
  } catch (error) { message(error.message); }
}

find("mic").addEventListener("click", async () => {
  find("mic").disabled = true; // until the microphone is open, or the summary is there
  await (live ? stop() : start());
  find("mic").disabled = false;
});
find("file").addEventListener("change", (event) => { scoreAll([...event.target.files]).then(() => { event.target.value = ""; }); });
find("token-form").addEventListener("submit", (event) => { event.preventDefault(); token = find("token").value.trim(); connect(); });
document.addEventListener("dragover", (event) => { event.preventDefault(); find("drop").classList.add("over"); });
document.addEventListener("dragleave", () => find("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); find("drop").classList.remove("over"); scoreAll([...event.dataTransfer.files]); });
window.addEventListener("resize", redraw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
connect();
redraw();
