// A run as the page holds it: what the server (or the report) gave, and what arrives afterwards line by line.
const MOST_POINTS = 4000, MOST_COLUMNS = 320, MOST_EVENTS = 500;

class Run {
  constructor(snapshot) {
    Object.assign(this, snapshot);
    this.record ??= {};
  }

  curve(key) {
    return this.series[key] ?? { s: [], v: [] };
  }

  last(key) {
    const values = this.curve(key).v;
    return values.length ? values[values.length - 1] : null;
  }

  get step() {
    return Math.max(0, ...["train/loss", "train/lr", "eval/loss"].map(key => this.curve(key).s).filter(s => s.length).map(s => s[s.length - 1]));
  }

  get lastStep() {
    return Number(this.config?.["train.steps"]?.value ?? NaN);
  }

  get isOver() {
    return !["starting", "running", "stopping"].includes(this.record.status);
  }

  get seconds() {
    const end = this.record.end ? new Date(this.record.end) : new Date(this.last("unix_ms") ?? NaN);
    return (end - new Date(this.record.start)) / 1000;
  }

  take(kind, row) {
    if (kind === "metrics") this.takeMetrics(row);
    else if (kind === "experts") this.takeColumn(this.load, row.step, percent(row.tokens), () => Object.assign(this.load, { layers: row.tokens.length, experts: row.tokens[0]?.length ?? 0 }));
    else if (kind === "domains") this.takeDomains(row);
    else if (kind === "ranks") this.takeRanks(row);
    else if (kind === "event") this.events = [...this.events, row].slice(-MOST_EVENTS);
    else if (kind === "run") this.record = row;
  }

  takeMetrics(row) {
    for (const [key, value] of Object.entries(row)) {
      if (key === "step" || typeof value !== "number") continue;
      const curve = this.series[key] ??= { s: [], v: [] };
      // A run that was continued goes through some steps again.
      while (curve.s.length && curve.s[curve.s.length - 1] >= row.step) { curve.s.pop(); curve.v.pop(); }
      curve.s.push(row.step);
      curve.v.push(value);
      if (curve.s.length > MOST_POINTS) thin(curve);
    }
  }

  takeDomains(row) {
    this.domains = this.domains.filter(evaluation => evaluation.step < row.step);
    this.domains.push({ step: row.step, domains: row.domains.map(domain => ({ name: domain.name, loss: domain.loss, percent: percent(domain.tokens) })) });
    if (this.domains.length > 100) this.domains = this.domains.filter((_, i) => i % 2 === 0 || i === this.domains.length - 1);
  }

  takeRanks(row) {
    for (const [key, values] of Object.entries(row)) {
      if (Array.isArray(values)) this.takeColumn(this.ranks[key] ??= { from: [], to: [], columns: [] }, row.step, values, () => {});
    }
  }

  takeColumn(table, step, values, changed) {
    if (table.columns.length && table.columns[0].length !== values.length) { table.from.length = 0; table.to.length = 0; table.columns.length = 0; }
    while (table.to.length && table.to[table.to.length - 1] >= step) { table.from.pop(); table.to.pop(); table.columns.pop(); }
    if (!table.columns.length) changed();
    table.from.push(step);
    table.to.push(step);
    table.columns.push(values);
    if (table.columns.length >= MOST_COLUMNS) {
      const half = table.columns.length >> 1;
      for (let i = 0; i < half; i++) {
        table.from[i] = table.from[2 * i];
        table.to[i] = table.to[2 * i + 1];
        table.columns[i] = table.columns[2 * i].map((value, j) => (value + table.columns[2 * i + 1][j]) / 2);
      }
      table.from.length = table.to.length = table.columns.length = half;
    }
  }
}

function percent(tokens) {
  return tokens.flatMap(layer => {
    const sum = layer.reduce((a, b) => a + b, 0);
    return layer.map(count => sum ? 100 * count * layer.length / sum : 100);
  });
}

// Of each four points the lowest and the highest stay, in order.
function thin(curve) {
  const s = [], v = [];
  for (let i = 0; i + 4 <= curve.s.length; i += 4) {
    const part = [0, 1, 2, 3].map(j => i + j);
    const low = part.reduce((a, b) => curve.v[b] < curve.v[a] ? b : a), high = part.reduce((a, b) => curve.v[b] > curve.v[a] ? b : a);
    for (const j of [...new Set([low, high])].sort((a, b) => a - b)) { s.push(curve.s[j]); v.push(curve.v[j]); }
  }
  if (s[s.length - 1] !== curve.s[curve.s.length - 1]) { s.push(curve.s[curve.s.length - 1]); v.push(curve.v[curve.v.length - 1]); }
  curve.s = s;
  curve.v = v;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
