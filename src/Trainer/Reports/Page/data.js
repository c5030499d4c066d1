// A run as the page holds it: what the server (or the report) gave, and what arrives afterwards line by line.
const MOST_POINTS = 4000, MOST_EVENTS = 500;
// Numbers kept of a table, as many as the snapshot has (RunSnapshotReader): wide tables have fewer columns.
const LOAD_CELLS = 150_000, RANK_CELLS = 40_000, DOMAIN_CELLS = 120_000;

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
    else if (kind === "experts") this.takeLoad(row);
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

  takeLoad(row) {
    takeColumn(this.load, row.step, percent(row.tokens), LOAD_CELLS);
    Object.assign(this.load, { layers: row.tokens.length, experts: row.tokens[0]?.length ?? 0 });
  }

  takeDomains(row) {
    this.domains = this.domains.filter(evaluation => evaluation.step < row.step);
    this.domains.push({ step: row.step, domains: row.domains.map(domain => ({ name: domain.name, loss: domain.loss, percent: percent(domain.tokens) })) });
    const most = columnsOf(row.domains.length * (this.domains[0].domains[0]?.percent.length ?? 0), DOMAIN_CELLS, 100);
    if (this.domains.length > most) this.domains = this.domains.filter((_, i) => i % 2 === 0 || i === this.domains.length - 1);
  }

  takeRanks(row) {
    for (const [key, values] of Object.entries(row)) {
      if (Array.isArray(values)) takeColumn(this.ranks[key] ??= { from: [], to: [], rows: [], columns: [] }, row.step, values, RANK_CELLS);
    }
  }
}

function columnsOf(cells, mostCells, mostColumns) {
  return Math.min(mostColumns, Math.max(2, Math.floor(mostCells / Math.max(1, cells))));
}

// A column is the mean of `rows` rows, as in TableSampler. Only the newest row stays by itself, so that the page shows the present: with the next one it joins
// its neighbour, until that has as many rows as the others; when the columns are full, all join by pairs.
function takeColumn(table, step, values, cells) {
  const { from, to, rows, columns } = table, cut = length => { from.length = to.length = rows.length = columns.length = length; };
  if (columns.length && columns[0].length !== values.length) cut(0);
  // A run that was continued goes through some steps again.
  while (to.length && to[to.length - 1] >= step) cut(to.length - 1);
  const join = (i, left, right) => {
    const sum = rows[left] + rows[right];
    columns[i] = columns[left].map((value, j) => (value * rows[left] + columns[right][j] * rows[right]) / sum);
    [from[i], to[i], rows[i]] = [from[left], to[right], sum];
  };
  const last = columns.length - 1, half = columnsOf(values.length, cells, 160) >> 1, full = rows.reduce((most, count) => Math.max(most, count), 1);
  if (last > 0 && rows[last - 1] + rows[last] <= full) {
    join(last - 1, last - 1, last);
    cut(last);
  } else if (columns.length >= 2 * half) {
    for (let i = 0; i < half; i++) join(i, 2 * i, 2 * i + 1);
    cut(half);
  }
  from.push(step);
  to.push(step);
  rows.push(1);
  columns.push(values);
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
