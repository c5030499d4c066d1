// Tables as coloured cells: a canvas of one pixel a cell, stretched, as there may be a hundred thousand; what is written around them is SVG above it.
const LOAD_BINS = {
  limits: [0, 25, 50, 80, 125, 200, 300],
  names: ["none", "below 25", "25–50", "50–80", "80–125", "125–200", "200–300", "above 300"],
  unit: "% of the layer's mean",
};
const RANK_BINS = {
  limits: [-1, 80, 90, 96, 104, 110, 125],
  names: [null, "below 80", "80–90", "90–96", "96–104", "104–110", "110–125", "above 125"],
  unit: "% of the median rank",
};

// Class 0 is what equals the first limit or less (no tokens at all); class i lies above limit i - 1.
function bin(value, bins) {
  let i = 0;
  while (i < bins.limits.length && value > bins.limits[i]) i++;
  return i;
}

function heatLegend(bins) {
  return element("ul", { class: "legend heatlegend" }, bins.names.flatMap((name, i) => name === null ? [] : [
    element("li", {}, shape("svg", { class: "swatch", viewBox: "0 0 14 10", "aria-hidden": "true" }, shape("rect", { class: `heat${i}`, width: 14, height: 10 })), element("span", {}, name)),
  ]), element("li", { class: "unit" }, bins.unit));
}

// The style's colours, as 32-bit pixels. A canvas follows neither the scheme nor the colours of print by itself: RunPage draws again where they change.
let heatColors = null;

function readHeatColors() {
  const style = getComputedStyle(document.documentElement);
  return Array.from({ length: 8 }, (_, i) => {
    const color = parseInt(style.getPropertyValue(`--heat${i}`).trim().slice(1), 16);
    return 0xff000000 | (color & 0xff) << 16 | color & 0xff00 | color >> 16; // bytes r, g, b, a on what is little-endian, as all browsers' machines are
  });
}

// Reads all widths before it draws: a width that is read after a drawing lays the page out again.
function drawAll(maps) {
  const rooms = maps.map(map => map.room());
  maps.forEach((map, i) => map.draw(rooms[i]));
}

// options: {title, rows, columns, value(row, column), bins, rowName(row), columnName(column), describe(row, column), cell (height), rowAxis, columnAxis}
class HeatMap {
  constructor(read) {
    this.read = read;
    this.canvas = element("canvas", {});
    this.svg = shape("svg", { tabindex: "0", role: "img", class: "heat" });
    this.readout = element("output", { class: "readout", "aria-live": "polite" });
    this.caption = element("figcaption", {});
    this.node = element("figure", { class: "heatfigure" }, this.caption, element("div", { class: "heatbox" }, this.canvas, this.svg), this.readout);
    this.chosen = null;
    this.svg.addEventListener("pointermove", event => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.mark(null));
    this.svg.addEventListener("blur", () => this.mark(null));
    this.svg.addEventListener("keydown", event => this.key(event));
  }

  room() {
    return Math.max(220, this.node.clientWidth - 24 || 420);
  }

  draw(width = this.room()) {
    const map = this.map = this.read();
    this.caption.replaceChildren(element("strong", {}, map.title), map.note ? element("span", { class: "unit" }, map.note) : "");
    const longest = Math.max(...Array.from({ length: map.rows }, (_, row) => shortened(map.rowName(row)).length));
    this.left = Math.min(120, 10 + 7 * longest);
    this.top = 2;
    this.cell = map.cell;
    this.wide = (width - this.left - 4) / map.columns;
    this.bottom = this.top + map.rows * map.cell;
    const height = this.bottom + 32;
    const gap = this.wide > 6 && map.cell > 6 ? 1 : 0;
    this.paint();
    // In shares of the drawing, which the style may stretch.
    Object.assign(this.canvas.style, { left: `${100 * this.left / width}%`, top: `${100 * this.top / height}%`, width: `${100 * map.columns * this.wide / width}%`, height: `${100 * map.rows * map.cell / height}%` });
    this.frame = shape("rect", { class: "chosen", width: Math.max(2, this.wide - gap).toFixed(1), height: Math.max(2, map.cell - gap), visibility: "hidden" });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", `${map.title}. ${map.rows} rows (${map.rowAxis}), ${map.columns} columns (${map.columnAxis}). ${map.summary ?? ""} Arrow keys read cells.`);
    this.svg.replaceChildren(...(gap ? [this.gaps()] : []), ...this.labels(width, height), this.frame);
    this.mark(this.chosen);
  }

  paint() {
    const { map } = this, image = new ImageData(Math.max(1, map.columns), Math.max(1, map.rows)), pixels = new Uint32Array(image.data.buffer);
    heatColors ??= readHeatColors();
    for (let row = 0; row < map.rows; row++) {
      for (let column = 0; column < map.columns; column++) pixels[row * map.columns + column] = heatColors[bin(map.value(row, column), map.bins)];
    }
    Object.assign(this.canvas, { width: image.width, height: image.height });
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  gaps() {
    const right = (this.left + this.map.columns * this.wide).toFixed(1), lines = [];
    for (let row = 1; row <= this.map.rows; row++) lines.push(`M${this.left} ${this.top + row * this.cell - 0.5}H${right}`);
    for (let column = 1; column <= this.map.columns; column++) lines.push(`M${(this.left + column * this.wide - 0.5).toFixed(1)} ${this.top}V${this.bottom}`);
    return shape("path", { class: "gaps", d: lines.join("") });
  }

  labels(width, height) {
    const { map } = this, parts = [];
    const every = Math.max(1, Math.ceil(14 / map.cell));
    const stride = map.namedRows ? every : [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128].find(n => n >= every) ?? every;
    for (let row = 0; row < map.rows; row += stride) {
      parts.push(shape("text", { class: "tick", x: this.left - 5, y: this.top + row * map.cell + Math.min(map.cell, 14) / 2 + 4, "text-anchor": "end" }, shortened(map.rowName(row))));
    }
    const room = Math.max(...[0, map.columns - 1].map(column => map.columnName(column).length)) * 7 + 14;
    const step = Math.max(1, Math.ceil(room / this.wide));
    for (let column = 0; column < map.columns; column += step) {
      const x = this.left + (column + 0.5) * this.wide;
      const end = x + room / 2 > width;
      parts.push(shape("text", { class: "tick", x: (end ? width - 4 : x).toFixed(1), y: this.bottom + 13, "text-anchor": end ? "end" : "middle" }, map.columnName(column)));
    }
    parts.push(shape("text", { class: "axis", x: (this.left + width) / 2, y: height - 4, "text-anchor": "middle" }, map.columnAxis));
    return parts;
  }

  point(event) {
    const box = this.svg.getBoundingClientRect(), view = this.svg.viewBox.baseVal;
    const column = Math.floor(((event.clientX - box.left) / box.width * view.width - this.left) / this.wide);
    const row = Math.floor(((event.clientY - box.top) / box.height * view.height - this.top) / this.cell);
    this.mark(row >= 0 && row < this.map.rows && column >= 0 && column < this.map.columns ? [row, column] : null);
  }

  key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!moves[event.key]) return;
    event.preventDefault();
    const [row, column] = this.chosen ?? [0, -1];
    this.mark([clamp(row + moves[event.key][0], this.map.rows), clamp(column + moves[event.key][1], this.map.columns)]);
  }

  mark(cell) {
    this.chosen = cell && cell[0] < this.map.rows && cell[1] < this.map.columns ? cell : null;
    this.frame.setAttribute("visibility", this.chosen ? "visible" : "hidden");
    if (this.chosen) {
      const [row, column] = this.chosen;
      this.frame.setAttribute("x", (this.left + column * this.wide).toFixed(1));
      this.frame.setAttribute("y", this.top + row * this.cell);
      this.readout.textContent = this.map.describe(row, column);
    } else {
      this.readout.textContent = this.map.summary ?? "\u00a0";
    }
  }
}

function clamp(index, count) {
  return Math.min(count - 1, Math.max(0, index));
}

function shortened(text) {
  return text.length > 14 ? text.slice(0, 13) + "…" : text;
}
