// The page of one run or of several: a heading, tiles, charts of all of them, and the details of one.
const CHARTS = [
  { id: "loss", title: "Loss", charts: [
    { title: "Loss", unit: "nats per token", log: true, legend: true, curves: [["train", "train/loss"], ["eval", "eval/loss"]] },
    { title: "Evaluation loss by domain", unit: "nats per token", prefix: "eval/loss/", optional: true },
  ] },
  { id: "optimization", title: "Optimization", charts: [
    { title: "Learning rate", zero: true, curves: [["learning rate", "train/lr"]] },
    { title: "Gradient norm", log: true, unit: "unclipped", curves: [["gradient norm", "train/grad_norm"]] },
    { title: "Balancing loss", unit: "1 when balanced", curves: [["balancing loss", "train/balance_loss"]] },
    { title: "Router z-loss", unit: "mean of logsumexp²", curves: [["z-loss", "train/z_loss"]] },
  ] },
  { id: "speed", title: "Speed", charts: [
    { title: "Throughput", unit: "tokens per second, all ranks", zero: true, curves: [["tokens/s", "perf/tokens_per_s"]] },
    { title: "Time of a step", unit: "ms, rank 0", zero: true, legend: true, curves: [["whole step", "perf/step_ms"], ["all-to-all", "perf/all_to_all_ms"], ["optimizer", "perf/optimizer_ms"], ["reading data", "perf/data_ms"]] },
    { title: "All-to-all share", unit: "% of the step, rank 0", zero: true, factor: 100, curves: [["all-to-all", "perf/all_to_all_share"]] },
    { title: "Model FLOP utilisation", unit: "% of the peak rate", zero: true, curves: [["MFU", "perf/mfu_pct"]] },
    { title: "Memory", unit: "GiB, largest peak of a rank", zero: true, legend: true, curves: [["peak resident", "mem/peak_resident_gib"], ["peak of computing", "perf/peak_gib"]] },
  ] },
  { id: "experts", title: "Experts", charts: [
    { title: "Largest load over mean", unit: "1 when even", curves: [["max/mean", "moe/load_max_over_mean"]] },
    { title: "Dead experts", unit: "that no token of the step chose", zero: true, curves: [["dead experts", "moe/dead_experts"]] },
    { title: "Dropped choices", unit: "a step, over capacity", zero: true, curves: [["dropped", "moe/dropped"]] },
  ] },
];

class RunPage {
  constructor(root, runs, extra = () => []) {
    Object.assign(this, { root, runs, extra, views: [], shown: 0 });
    this.build();
  }

  build() {
    const sections = [...CHARTS.map(section => this.section(section))];
    this.detail = element("div", {});
    this.head = element("div", {});
    this.tiles = element("div", {});
    this.root.replaceChildren(...(this.runs.length > 1 ? [this.comparison()] : [this.head, this.tiles]), this.navigation(), ...sections, this.detail);
    this.buildDetail();
    this.draw();
    let width = this.root.clientWidth;
    new ResizeObserver(() => {
      if (this.root.clientWidth !== width) { width = this.root.clientWidth; this.draw(); }
    }).observe(this.root);
    for (const condition of ["(prefers-color-scheme: dark)", "print"]) {
      matchMedia(condition).addEventListener("change", () => { heatColors = null; this.draw(); });
    }
  }

  draw() {
    if (this.runs.length === 1) {
      this.head.replaceChildren(...heading(this.runs[0]));
      this.tiles.replaceChildren(tiles(this.runs[0]));
    }
    for (const view of this.views) view.draw();
    for (const view of this.detailViews) view.draw();
  }

  navigation() {
    const links = [...CHARTS.map(section => [section.id, section.title]), ["load", "Expert load"], ["domains", "Domains"], ["ranks", "Ranks"], ["events", "Events"], ["configuration", "Configuration"], ["sample", "Sample"]];
    if (document.documentElement.dataset.view === "run") links.push(["logs", "Logs"]);
    return element("nav", { "aria-label": "Parts of this page" }, links.map(([id, title]) => element("a", { href: "#" + id }, title)));
  }

  section(section) {
    const charts = section.charts.flatMap(options => this.chart(options));
    this.views.push(...charts);
    return element("section", { id: section.id, "aria-labelledby": section.id + "-title" }, element("h2", { id: section.id + "-title" }, section.title),
      element("div", { class: `grid of${section.charts.length}` }, charts.map(chart => chart.node)));
  }

  chart(options) {
    const several = this.runs.length > 1;
    const chart = new LineChart(options.title, options, () => this.curves(options));
    if (!options.optional) return [chart];
    const draw = chart.draw.bind(chart);
    chart.draw = () => { chart.node.hidden = this.curves(options).length < (several ? 1 : 2); draw(); };
    return [chart];
  }

  // Of one run its curves; of several the first curve of each, and the evaluation where that is what there is.
  curves(options) {
    const named = options.prefix
      ? [...new Set(this.runs.flatMap(run => Object.keys(run.series)))].filter(key => key.startsWith(options.prefix)).map(key => [key.slice(options.prefix.length), key])
      : options.curves;
    return this.runs.flatMap((run, i) => named.map(([name, key], j) => {
      const curve = run.curve(key), factor = options.factor ?? 1;
      return {
        name: this.runs.length === 1 ? name : named.length > 1 ? `${run.id}: ${name}` : run.id,
        s: curve.s,
        v: factor === 1 ? curve.v : curve.v.map(value => value * factor),
        hue: this.runs.length === 1 ? j % 6 : i % 6 + (j > 0 ? ` second` : ""),
      };
    })).filter((curve, i) => curve.s.length > 0 && (this.runs.length === 1 || i % named.length < 2));
  }

  comparison() {
    const rows = this.runs.map((run, i) => [
      element("span", { class: "name" }, swatch({ name: run.id, hue: i }).firstChild, " ", run.id), badge(run),
      `${run.step}`, number(run.last("train/loss")), number(run.last("eval/loss")), number(run.last("perf/tokens_per_s")), duration(run.seconds)]);
    const keys = [...new Set(this.runs.flatMap(run => Object.keys(run.config ?? {})))].filter(key => new Set(this.runs.map(run => run.config?.[key]?.value)).size > 1);
    return element("div", {}, element("h1", {}, `${this.runs.length} runs beside each other`),
      element("div", { class: "scroll" }, table(["run", "status", "steps", "train loss", "eval loss", "tokens/s", "time"], rows)),
      element("details", { open: keys.length <= 12 }, element("summary", {}, keys.length ? `${keys.length} key(s) of the configuration differ` : "The configurations are the same"),
        element("div", { class: "scroll" }, table(["key", ...this.runs.map(run => run.id)], keys.map(key => [key, ...this.runs.map(run => run.config?.[key]?.value ?? "–")])))));
  }

  buildDetail() {
    const run = this.runs[this.shown];
    this.detailViews = [new LoadView(run), new DomainView(run), new RankView(run), new EventView(run), new ConfigView(run), new SampleView(run), ...this.extra(run)];
    const choice = element("select", { onchange: event => { this.shown = Number(event.target.value); this.buildDetail(); for (const view of this.detailViews) view.draw(); } },
      this.runs.map((each, i) => element("option", { value: i, selected: i === this.shown }, each.id)));
    this.detail.replaceChildren(...(this.runs.length > 1 ? [element("p", { class: "chooser" }, element("label", {}, "What follows is of the run ", choice))] : []),
      ...this.detailViews.map(view => view.node));
  }
}

function badge(run) {
  const status = run.record.status ?? "unknown";
  const look = ["done", "running", "failed", "stopped"].includes(status) ? status : "other";
  return element("span", { class: `badge ${look}` }, status);
}

function heading(run) {
  const { record } = run;
  const facts = [record.mesh, record.world_size && `${record.world_size} ranks over ${record.backend}`,
    record.parameters && `${number(record.parameters.total)} parameters, ${number(record.parameters.active)} active`, record.host && `on ${record.host}`,
    record.start && `started ${moment(record.start)}`, record.attempt > 1 && `attempt ${record.attempt}`];
  return [element("h1", {}, run.id, " ", badge(run)), element("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    ...run.failures.map(failure => element("div", { class: "failure", role: "alert" },
      element("strong", {}, `Rank ${failure.rank} ${failure.secondary ? "noticed a broken exchange" : "failed"} at step ${failure.step}`),
      element("p", {}, failure.what),
      ...[["where", failure.where], ["why", failure.why], ["try", failure.try]].flatMap(([label, text]) => text ? [element("p", {}, element("b", {}, label), " ", text)] : [])))];
}

function tiles(run) {
  const share = run.last("perf/all_to_all_share");
  const entries = [
    ["step", String(run.step), [Number.isFinite(run.lastStep) && `of ${run.lastStep}`, run.isOver ? duration(run.seconds) : left(run)].filter(Boolean).join(" · ")],
    ["train loss", number(run.last("train/loss")), "nats per token"],
    ["eval loss", number(run.last("eval/loss")), run.last("eval/loss") === null ? "" : `perplexity ${number(Math.exp(run.last("eval/loss")))}`],
    ["throughput", number(run.last("perf/tokens_per_s")), "tokens/s"],
    ["MFU", run.last("perf/mfu_pct") === null ? "–" : `${number(run.last("perf/mfu_pct"))} %`, run.last("perf/tflops_per_rank") === null ? "" : `${number(run.last("perf/tflops_per_rank"))} TFLOP/s a rank`],
    ["largest load", number(run.last("moe/load_max_over_mean")), "times the mean"],
    ["dead experts", number(run.last("moe/dead_experts")), run.load.experts ? `of ${run.load.layers * run.load.experts}` : ""],
    ["all-to-all", share === null ? "–" : `${(100 * share).toFixed(0)} %`, "of the step"],
    ["memory", number(run.last("mem/peak_resident_gib")), "GiB a rank at most"],
  ];
  return element("dl", { class: "tiles" }, entries.map(([name, value, note]) => element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, note)))));
}

function left(run) {
  const step = run.last("perf/step_ms");
  return step === null || !Number.isFinite(run.lastStep) ? "" : `${duration((run.lastStep - run.step) * step / 1000)} left`;
}

function part(id, title, ...children) {
  return element("section", { id, "aria-labelledby": id + "-title" }, element("h2", { id: id + "-title" }, title), ...children);
}

// Layers by experts at one time, chosen by a slider, and below it each layer's experts over time.
class LoadView {
  constructor(run) {
    this.run = run;
    this.follows = true;
    this.slider = element("input", { type: "range", min: 0, value: 0, oninput: () => { this.follows = this.slider.value === this.slider.max; this.drawGrid(); } });
    this.when = element("output", {});
    this.grid = new HeatMap(() => this.readGrid());
    this.layers = element("div", { class: "grid" });
    this.body = element("div", {}, heatLegend(LOAD_BINS), element("p", { class: "slider" }, element("label", {}, "Time ", this.slider), this.when), this.grid.node,
      element("h3", {}, "Over time, layer by layer"), this.layers);
    this.empty = element("p", { class: "empty" }, "No expert load was logged: the run has no step yet, or no layer with experts.");
    this.node = part("load", "Expert load", this.empty, this.body);
    this.maps = [];
  }

  draw() {
    const { load } = this.run;
    const has = load.columns.length > 0;
    this.empty.hidden = has;
    this.body.hidden = !has;
    if (!has) return;
    this.slider.max = load.columns.length - 1;
    if (this.follows) this.slider.value = load.columns.length - 1;
    if (this.maps.length !== load.layers) {
      this.maps = Array.from({ length: load.layers }, (_, layer) => new HeatMap(() => this.readLayer(layer)));
      this.layers.replaceChildren(...this.maps.map(map => map.node));
    }
    this.drawGrid();
    drawAll(this.maps);
  }

  drawGrid() {
    this.when.textContent = span(this.run.load, Number(this.slider.value));
    this.slider.setAttribute("aria-valuetext", this.when.textContent);
    this.grid.draw();
  }

  readGrid() {
    const { load } = this.run, column = load.columns[Number(this.slider.value)] ?? load.columns[load.columns.length - 1];
    return {
      title: "All layers at this time", bins: LOAD_BINS, rows: load.layers, columns: load.experts, cell: load.layers > 24 ? 10 : 20,
      value: (row, i) => column[row * load.experts + i], rowName: row => `layer ${row}`, columnName: String, rowAxis: "layers", columnAxis: "expert", namedRows: true,
      describe: (row, i) => `layer ${row}, expert ${i}: ${column[row * load.experts + i].toFixed(0)} % of the mean`,
      summary: loadSummary(column),
    };
  }

  readLayer(layer) {
    const { load } = this.run, at = (row, i) => load.columns[i][layer * load.experts + row];
    return {
      title: `Layer ${layer}`, bins: LOAD_BINS, rows: load.experts, columns: load.columns.length, cell: Math.max(2, Math.min(14, Math.floor(192 / load.experts))),
      value: at, rowName: String, columnName: i => number(load.to[i]), rowAxis: "experts", columnAxis: "step",
      describe: (row, i) => `expert ${row}, ${span(load, i)}: ${at(row, i).toFixed(0)} % of the mean`,
    };
  }
}

function span(table, i) {
  return table.from[i] === table.to[i] ? `step ${table.to[i]}` : `mean of steps ${table.from[i]} to ${table.to[i]}`;
}

function loadSummary(column) {
  const [low, high] = bounds(column), dead = column.filter(value => value === 0).length;
  return `Loads from ${low.toFixed(0)} % to ${high.toFixed(0)} % of the mean` + (dead ? `; ${dead} expert(s) without a token.` : "; every expert has tokens.");
}

// Which experts serve which domain, at one evaluation.
class DomainView {
  constructor(run) {
    this.run = run;
    this.follows = true;
    this.slider = element("input", { type: "range", min: 0, value: 0, oninput: () => { this.follows = this.slider.value === this.slider.max; this.draw(); } });
    this.when = element("output", {});
    this.layers = element("div", { class: "grid" });
    this.losses = element("div", { class: "scroll" });
    this.chooser = element("p", { class: "slider" }, element("label", {}, "Evaluation ", this.slider), this.when);
    this.body = element("div", {}, heatLegend(LOAD_BINS), this.chooser, this.layers, this.losses);
    this.empty = element("p", { class: "empty" }, "No evaluation yet: load by domain is counted on the held-out text, every train.eval_every steps.");
    this.node = part("domains", "Load by domain", this.empty, this.body);
    this.maps = [];
  }

  draw() {
    const { domains, load } = this.run;
    const has = domains.length > 0;
    this.empty.hidden = has;
    this.body.hidden = !has;
    if (!has) return;
    this.slider.max = domains.length - 1;
    if (this.follows) this.slider.value = domains.length - 1;
    this.evaluation = domains[Number(this.slider.value)] ?? domains[domains.length - 1];
    this.when.textContent = `step ${this.evaluation.step}`;
    this.chooser.hidden = domains.length < 2;
    this.experts = load.experts || this.evaluation.domains[0].percent.length;
    const layers = Math.round((this.evaluation.domains[0]?.percent.length ?? 0) / Math.max(1, this.experts));
    if (this.maps.length !== layers) {
      this.maps = Array.from({ length: layers }, (_, layer) => new HeatMap(() => this.readLayer(layer)));
      this.layers.replaceChildren(...this.maps.map(map => map.node));
    }
    drawAll(this.maps);
    this.losses.replaceChildren(table(["domain", "eval loss"], this.evaluation.domains.map(domain => [domain.name, number(domain.loss)])));
  }

  readLayer(layer) {
    const { domains } = this.evaluation, at = (row, i) => domains[row].percent[layer * this.experts + i];
    return {
      title: `Layer ${layer}`, bins: LOAD_BINS, rows: domains.length, columns: this.experts, cell: 18,
      value: at, rowName: row => domains[row].name, columnName: String, rowAxis: "domains", columnAxis: "expert", namedRows: true,
      describe: (row, i) => `${domains[row].name}, expert ${i}: ${at(row, i).toFixed(0)} % of the mean`,
    };
  }
}

// What each rank measured of itself: who the others wait for.
class RankView {
  constructor(run) {
    this.run = run;
    this.map = new HeatMap(() => this.read());
    this.table = element("div", { class: "scroll" });
    this.note = element("p", { class: "unit" });
    this.body = element("div", {}, element("p", {}, "Ranks wait for each other in every step; busy time is the step less that waiting. A rank above the others is the one they wait for."),
      heatLegend(RANK_BINS), this.map.node, this.note, this.table);
    this.empty = element("p", { class: "empty" }, "The ranks have measured nothing yet.");
    this.node = part("ranks", "Ranks", this.empty, this.body);
  }

  get times() {
    return this.run.ranks["perf/busy_ms"] ?? this.run.ranks["perf/step_ms"] ?? { columns: [] };
  }

  draw() {
    const has = this.times.columns.length > 0;
    this.empty.hidden = has;
    this.body.hidden = !has;
    if (!has) return;
    this.map.draw();
    this.drawTable();
  }

  read() {
    const { times } = this, ranks = times.columns[0].length, medians = times.columns.map(median);
    const at = (row, i) => medians[i] > 0 ? 100 * times.columns[i][row] / medians[i] : 100;
    return {
      title: "Busy time of a step", note: "by rank, against the median rank", bins: RANK_BINS, rows: ranks, columns: times.columns.length,
      cell: Math.max(1, Math.min(20, Math.floor(320 / ranks))), value: at, rowName: row => `rank ${row}`, columnName: i => number(times.to[i]), rowAxis: "ranks", columnAxis: "step",
      describe: (row, i) => `rank ${row}, ${span(times, i)}: ${number(times.columns[i][row])} ms, ${at(row, i).toFixed(0)} % of the median`,
    };
  }

  drawTable() {
    const last = key => { const columns = this.run.ranks[key]?.columns; return columns?.[columns.length - 1]; };
    const keys = [["step", "perf/step_ms"], ["busy", "perf/busy_ms"], ["all-to-all", "perf/all_to_all_ms"], ["data", "perf/data_ms"]].filter(([, key]) => last(key));
    const busy = this.times.columns[this.times.columns.length - 1], middle = median(busy);
    let ranks = busy.map((_, rank) => rank);
    this.note.textContent = span(this.times, this.times.columns.length - 1);
    if (ranks.length > 32) {
      ranks = ranks.sort((a, b) => busy[b] - busy[a]).slice(0, 16);
      this.note.textContent += `; the 16 slowest of ${busy.length} ranks`;
    }
    const memory = last("mem/peak_resident_gib");
    this.table.replaceChildren(table(["rank", ...keys.map(([name]) => `${name} ms`), "against median", ...(memory ? ["peak GiB"] : [])], ranks.map(rank => {
      const over = middle > 0 ? 100 * (busy[rank] / middle - 1) : 0;
      return [String(rank), ...keys.map(([, key]) => last(key)[rank]?.toFixed(1) ?? "–"), `${over >= 0 ? "+" : "−"}${Math.abs(over).toFixed(0)} %${over > 7 && busy.length > 1 ? " slow" : ""}`,
        ...(memory ? [memory[rank]?.toFixed(2) ?? "–"] : [])];
    }), true));
  }
}

class EventView {
  constructor(run) {
    this.run = run;
    this.body = element("div", { class: "scroll tall", tabindex: "0", "aria-label": "Events" });
    this.node = part("events", "Events", this.body);
    this.count = -1;
  }

  draw() {
    const { events } = this.run;
    if (this.last === events[events.length - 1] && this.count === events.length) return;
    [this.last, this.count] = [events[events.length - 1], events.length];
    this.body.replaceChildren(events.length === 0 ? element("p", { class: "empty" }, "Nothing has happened yet.")
      : table(["time", "step", "kind", "what"], events.map(event => [moment(event.time), event.step === null || event.step === undefined ? "" : String(event.step), String(event.kind ?? ""), String(event.text ?? "")])));
  }
}

class ConfigView {
  constructor(run) {
    this.run = run;
    this.onlySet = element("input", { type: "checkbox", onchange: () => this.fill() });
    this.body = element("div", { class: "scroll tall", tabindex: "0", "aria-label": "Configuration" });
    const has = Object.keys(run.config ?? {}).length > 0;
    this.node = part("configuration", "Configuration", has ? element("p", { class: "chooser" }, element("label", {}, this.onlySet, " only what was set")) : "",
      has ? this.body : element("p", { class: "empty" }, "The run folder has no config.origin.json."));
  }

  draw() {
    if (!this.body.firstChild) this.fill();
  }

  fill() {
    const entries = Object.entries(this.run.config ?? {}).filter(([, entry]) => !this.onlySet.checked || entry.origin !== "default");
    this.body.replaceChildren(table(["key", "value", "from"], entries.map(([key, entry]) => [element("code", {}, key), element("code", {}, String(entry.value)),
      element("span", { class: entry.origin === "default" ? "unit" : "" }, String(entry.origin))])));
  }
}

class SampleView {
  constructor(run) {
    this.run = run;
    this.text = element("pre", { class: "text", tabindex: "0", "aria-label": "Sample text" });
    this.empty = element("p", { class: "empty" }, "No sample: a run writes one at its end where train.sample_tokens is above 0.");
    this.node = part("sample", "Sample text", this.text, this.empty);
  }

  draw() {
    this.text.hidden = !this.run.sample;
    this.empty.hidden = Boolean(this.run.sample);
    this.text.textContent = this.run.sample ?? "";
  }
}
