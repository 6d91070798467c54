// Waveform, P(spoof) with its thresholds, states and gaps of one source, on a canvas.
const BIN = 0.02; // s of sound behind one column of the waveform
const COLOURS = { spoof: "--spoof", bonafide: "--bonafide", unsure: "--unsure", "warming-up": "--unsure" };

export class Course {
  constructor() {
    this.peaks = []; // of each BIN
    this.verdicts = []; // {t, state, p}
    this.gaps = []; // {t, lost}
    this.segments = [];
    this.claims = [0.3, 0.95]; // P(spoof) to which the state becomes bonafide and from which spoof; the start line has the model's
    this.rest = { peak: 0, count: 0 };
  }

  get seconds() {
    const last = this.verdicts.at(-1);
    return Math.max(this.peaks.length * BIN, last ? last.t : 0, 1);
  }

  addSound(samples, rate) {
    const size = Math.round(BIN * rate);
    for (const sample of samples) {
      this.rest.peak = Math.max(this.rest.peak, Math.abs(sample));
      if (++this.rest.count >= size) {
        this.peaks.push(this.rest.peak);
        this.rest = { peak: 0, count: 0 };
      }
    }
  }
}

export function draw(canvas, course, follow) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const left = 34, right = width - 4, wave = height * 0.3, top = wave + 16, bottom = height - 18;
  const end = course.seconds, begin = follow ? Math.max(0, end - 60) : 0; // of a live stream the last minute
  canvas.dataset.seconds = end;
  const x = (t) => left + ((t - begin) / (end - begin)) * (right - left);
  const y = (p) => bottom - p * (bottom - top);

  pen.fillStyle = colour("--wave");
  const columns = Math.max(1, Math.floor(right - left));
  for (let column = 0; column < columns; column++) {
    const from = Math.floor((begin + (column / columns) * (end - begin)) / BIN);
    const to = Math.max(from + 1, Math.floor((begin + ((column + 1) / columns) * (end - begin)) / BIN));
    let peak = 0;
    for (let i = from; i < to && i < course.peaks.length; i++) peak = Math.max(peak, course.peaks[i]);
    const half = Math.max(0.5, Math.min(1, peak) * (wave / 2));
    if (from < course.peaks.length) pen.fillRect(left + column, wave / 2 - half, 1, 2 * half);
  }

  pen.globalAlpha = 0.18; // passages judged as spoof
  pen.fillStyle = colour("--spoof");
  for (const { start, end: until } of course.segments) pen.fillRect(x(Math.max(start, begin)), 0, Math.max(1, x(until) - x(Math.max(start, begin))), bottom);
  pen.globalAlpha = 1;

  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  const [bonafide, spoof] = course.claims;
  for (const [p, dash] of [[0, []], [bonafide, [4, 4]], [0.5, [1, 4]], [spoof, [4, 4]], [1, []]]) {
    pen.strokeStyle = p === spoof ? colour("--spoof") : p === bonafide ? colour("--bonafide") : colour("--line");
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(left, y(p));
    pen.lineTo(right, y(p));
    pen.stroke();
    pen.fillStyle = colour("--soft");
    const hidden = [0, 1].includes(p) && course.claims.some((claim) => Math.abs(y(claim) - y(p)) < 12); // by a threshold's number
    if (!hidden) pen.fillText(p.toFixed(2).replace(/0$/, ""), 6, y(p) + 4);
  }
  pen.setLineDash([]);

  let before = null;
  for (const verdict of course.verdicts) {
    if (verdict.t >= begin) {
      const from = x(Math.max(before ? before.t : 0, begin)), to = x(verdict.t);
      const paint = colour(COLOURS[verdict.state] || "--line");
      pen.fillStyle = paint;
      pen.fillRect(from, wave + 2, Math.max(1, to - from), 6);
      if (verdict.p !== null && before && before.p !== null) {
        pen.strokeStyle = paint;
        pen.lineWidth = 2;
        pen.beginPath();
        pen.moveTo(from, y(before.p));
        pen.lineTo(to, y(verdict.p));
        pen.stroke();
      }
      if (verdict.p !== null && course.verdicts.length < 100) pen.fillRect(to - 2, y(verdict.p) - 2, 4, 4);
    }
    before = verdict;
  }
  pen.fillStyle = colour("--lost");
  for (const { t, lost } of course.gaps) if (t >= begin) pen.fillRect(x(Math.max(begin, t - lost)), wave + 2, Math.max(2, x(t) - x(Math.max(begin, t - lost))), 6);
  pen.fillStyle = colour("--soft");
  const step = [0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800].find((size) => (end - begin) / size <= width / 90) || 3600;
  for (let t = Math.ceil(begin / step) * step; t < end; t += step) pen.fillText(`${t} s`, x(t), height - 4);
}
