// Elements, numbers and line charts. Texts only ever become text nodes: what comes out of a run is shown, never run.
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return node;
}

function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e9) return trimmed((value / 1e9).toFixed(2)) + "G";
  if (size >= 1e6) return trimmed((value / 1e6).toFixed(2)) + "M";
  if (size >= 1e4) return trimmed((value / 1e3).toFixed(1)) + "k";
  if (Number.isInteger(value)) return String(value);
  if (size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return trimmed(value.toPrecision(size >= 1000 ? 5 : 4));
}

function trimmed(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
}

function moment(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? "–" : date.toISOString().slice(0, 19).replace("T", " ") + " UTC";
}

// Round numbers between two limits, about as many as asked for.
function ticks(low, high, count, whole) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= rough * 0.999);
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function logTicks(low, high, count) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  const sparse = found.filter(value => /^1/.test(value.toExponential()));
  const chosen = found.length > count + 2 && sparse.length > 1 ? sparse : found;
  return chosen.length > 1 ? chosen : ticks(low, high, count, false);
}

// A curve chart in a figure. `read` returns the curves: [{name, s, v, hue}], steps and values of equal length, hue from 0.
class LineChart {
  constructor(title, options, read) {
    this.title = title;
    this.options = options;
    this.read = read;
    this.log = false;
    this.at = null;
    this.readout = element("output", { class: "readout", "aria-live": "polite" });
    this.logButton = element("button", { type: "button", class: "toggle", "aria-pressed": "false", onclick: () => this.toggleLog() }, "log");
    this.svg = shape("svg", { tabindex: "0", role: "img", class: "chart" });
    this.legend = element("ul", { class: "legend" });
    this.table = element("details", { ontoggle: () => this.drawTable() }, element("summary", {}, "Numbers"), element("div", { class: "scroll" }));
    this.empty = element("p", { class: "empty" }, options.empty ?? "Nothing was logged of this yet.");
    this.node = element("figure", {},
      element("figcaption", {}, element("strong", {}, title), options.unit ? element("span", { class: "unit" }, options.unit) : "", this.logButton),
      this.svg, this.empty, this.readout, this.legend, this.table);
    this.svg.addEventListener("pointermove", event => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.mark(null));
    this.svg.addEventListener("keydown", event => this.key(event));
    this.svg.addEventListener("blur", () => this.mark(null));
  }

  toggleLog() {
    this.log = !this.log;
    this.logButton.setAttribute("aria-pressed", String(this.log));
    this.draw();
  }

  draw() {
    this.curves = this.read().filter(curve => curve.s.length > 0);
    const values = this.curves.flatMap(curve => curve.v);
    const has = values.length > 0;
    this.svg.toggleAttribute("hidden", !has);
    this.empty.hidden = has;
    this.table.hidden = !has;
    this.logButton.hidden = !has || !this.options.log || values.some(value => value <= 0);
    this.readout.hidden = !has;
    if (!has) {
      this.legend.replaceChildren();
      return;
    }
    const width = Math.max(260, this.node.clientWidth - 24 || 420), height = this.options.height ?? 190;
    this.scale(values, width, height);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", this.summary());
    this.cursor = shape("line", { class: "cursor", y1: this.top, y2: this.bottom, visibility: "hidden" });
    this.svg.replaceChildren(...this.axes(width, height), ...this.curves.flatMap(curve => this.path(curve)), this.cursor);
    this.legend.replaceChildren(...(this.curves.length > 1 || this.options.legend ? this.curves.map(curve => swatch(curve)) : []));
    this.drawTable();
    this.mark(this.at);
  }

  scale(values, width, height) {
    const log = this.log && values.every(value => value > 0);
    let low = Math.min(...bounds(values)), high = Math.max(...bounds(values));
    if (this.options.zero && !log) { low = Math.min(0, low); high = Math.max(0, high); }
    if (low === high) { const room = Math.abs(low) * 0.1 || 1; if (log) { low /= 2; high *= 2; } else { low -= this.options.zero && low === 0 ? 0 : room; high += room; } }
    const room = log ? 0 : (high - low) * 0.05;
    if (!(this.options.zero && low === 0)) low -= room;
    high += room;
    const steps = this.curves.flatMap(curve => [curve.s[0], curve.s[curve.s.length - 1]]);
    let first = Math.min(...steps), last = Math.max(...steps);
    if (first === last) { first -= 1; last += 1; }
    this.yTicks = log ? logTicks(low, high, 4) : ticks(low, high, 4, false);
    const widest = Math.max(...this.yTicks.map(tick => number(tick).length));
    Object.assign(this, { left: 14 + 7 * widest, right: width - 12, top: 8, bottom: height - 34, first, last });
    this.x = step => this.left + (step - first) / (last - first) * (this.right - this.left);
    this.y = log
      ? value => this.bottom - Math.log(value / low) / Math.log(high / low) * (this.bottom - this.top)
      : value => this.bottom - (value - low) / (high - low) * (this.bottom - this.top);
  }

  axes(width, height) {
    const parts = [];
    for (const tick of this.yTicks) {
      const y = this.y(tick).toFixed(1);
      parts.push(shape("line", { class: "rule", x1: this.left, x2: this.right, y1: y, y2: y }),
        shape("text", { class: "tick", x: this.left - 6, y: Number(y) + 4, "text-anchor": "end" }, number(tick)));
    }
    for (const tick of ticks(this.first, this.last, Math.max(2, width / 80), true)) {
      if (tick < 0) continue;
      const end = this.x(tick) + 4 * number(tick).length > width;
      parts.push(shape("text", { class: "tick", x: end ? width : this.x(tick).toFixed(1), y: this.bottom + 15, "text-anchor": end ? "end" : "middle" }, number(tick)));
    }
    parts.push(shape("text", { class: "axis", x: (this.left + this.right) / 2, y: height - 4, "text-anchor": "middle" }, "step"));
    return parts;
  }

  path(curve) {
    if (curve.s.length === 1) {
      return [shape("circle", { class: `dot hue${curve.hue}`, cx: this.x(curve.s[0]).toFixed(1), cy: this.y(curve.v[0]).toFixed(1), r: 4 })];
    }
    const points = curve.s.map((step, i) => `${this.x(step).toFixed(1)},${this.y(curve.v[i]).toFixed(1)}`);
    const parts = [shape("path", { class: `line hue${curve.hue}`, d: "M" + points.join("L") })];
    if (curve.s.length <= 24) parts.push(...curve.s.map((step, i) => shape("circle", { class: `dot hue${curve.hue}`, cx: this.x(step).toFixed(1), cy: this.y(curve.v[i]).toFixed(1), r: 2.5 })));
    return parts;
  }

  summary() {
    const unit = this.options.unit ? `, ${this.options.unit}` : "";
    return `${this.title}${unit}. ` + this.curves.map(curve => {
      const [low, high] = bounds(curve.v);
      return `${curve.name}: ${number(curve.v[0])} at step ${curve.s[0]}, ${number(curve.v[curve.v.length - 1])} at step ${curve.s[curve.s.length - 1]}, between ${number(low)} and ${number(high)}.`;
    }).join(" ") + " Arrow keys read values.";
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const width = this.svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / box.width * width;
    this.mark(this.first + (x - this.left) / (this.right - this.left) * (this.last - this.first));
  }

  key(event) {
    const steps = this.curves[0].s;
    let i = this.at === null ? steps.length - 1 : nearest(steps, this.at);
    if (event.key === "ArrowLeft") i -= 1;
    else if (event.key === "ArrowRight") i += 1;
    else if (event.key === "Home") i = 0;
    else if (event.key === "End") i = steps.length - 1;
    else return;
    event.preventDefault();
    this.mark(steps[Math.min(steps.length - 1, Math.max(0, i))]);
  }

  mark(step) {
    this.at = step;
    if (!this.curves?.length) return;
    const longest = this.curves.reduce((a, b) => b.s.length > a.s.length ? b : a);
    const at = step === null ? longest.s[longest.s.length - 1] : longest.s[nearest(longest.s, step)];
    this.cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    this.cursor.setAttribute("x1", this.x(at));
    this.cursor.setAttribute("x2", this.x(at));
    const several = this.curves.length > 1;
    this.readout.textContent = `step ${at}: ` + this.curves.map(curve => `${several ? curve.name + " " : ""}${number(curve.v[nearest(curve.s, at)])}`).join(", ");
  }

  drawTable() {
    if (!this.table.open || !this.curves?.length) return;
    const longest = this.curves.reduce((a, b) => b.s.length > a.s.length ? b : a).s;
    const chosen = [...new Set(Array.from({ length: 16 }, (_, i) => longest[Math.round(i * (longest.length - 1) / 15)]))];
    this.table.lastChild.replaceChildren(table(["step", ...this.curves.map(curve => curve.name)],
      chosen.map(step => [String(step), ...this.curves.map(curve => number(curve.v[nearest(curve.s, step)]))]), true));
  }
}

function swatch(curve) {
  return element("li", {}, shape("svg", { class: "swatch", viewBox: "0 0 24 10", "aria-hidden": "true" }, shape("path", { class: `line hue${curve.hue}`, d: "M1,5L23,5" })),
    element("span", {}, curve.name));
}

function bounds(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function nearest(steps, step) {
  let low = 0, high = steps.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1;
    else high = middle;
  }
  return low > 0 && step - steps[low - 1] <= steps[low] - step ? low - 1 : low;
}

function table(heads, rows, numeric) {
  return element("table", { class: numeric ? "numeric" : "" },
    element("thead", {}, element("tr", {}, heads.map(head => element("th", { scope: "col" }, head)))),
    element("tbody", {}, rows.map(row => element("tr", {}, row.map(cell => element("td", {}, cell))))));
}
