// What only the live page has: the list of runs, the stream of one run, tails of its logs.
const REDRAW_MS = 500, LIST_MS = 3000, LOG_MS = 1500, MOST_LOG = 200_000;

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status === 401 ? "the token is missing or wrong: open the address that the launcher printed" : `${path}: ${answer.status}`);
  return answer;
}

function api(id, rest = "") {
  return `/api/runs/${encodeURIComponent(id)}${rest}`;
}

class RunList {
  constructor(root) {
    this.root = root;
    this.chosen = new Set();
    this.compare = element("a", { class: "button", "aria-disabled": "true" }, "Compare");
    this.state = element("p", { class: "unit", role: "status" });
    this.body = element("div", { class: "scroll" });
    root.replaceChildren(element("h1", {}, "Runs"), element("p", { class: "chooser" }, this.compare, " two to six chosen runs"), this.body, this.state);
    this.load();
  }

  async load() {
    try {
      this.draw(await (await get("/api/runs")).json());
      this.state.textContent = "";
    } catch (error) {
      this.state.textContent = `Not up to date: ${error.message}`;
    }
    setTimeout(() => this.load(), LIST_MS);
  }

  draw(runs) {
    const key = JSON.stringify(runs);
    if (key === this.key) return;
    this.key = key;
    const focused = document.activeElement?.dataset?.run;
    this.body.replaceChildren(runs.length === 0 ? element("p", { class: "empty" }, "There is no run here yet.")
      : table(["", "run", "status", "steps", "train loss", "eval loss", "tokens/s", "started"], runs.map(run => this.row(run))));
    if (focused) this.body.querySelector(`input[data-run="${CSS.escape(focused)}"]`)?.focus();
    this.choose();
  }

  row(run) {
    return [
      element("input", { type: "checkbox", "data-run": run.name, "aria-label": `compare ${run.name}`, checked: this.chosen.has(run.name), onchange: event => {
        if (event.target.checked) this.chosen.add(run.name); else this.chosen.delete(run.name);
        this.choose();
      } }),
      element("a", { href: `/runs/${encodeURIComponent(run.name)}`, class: "name" }, run.name), badge({ record: run }),
      run.last_step ? `${run.step ?? 0} / ${run.last_step}` : String(run.step ?? "–"), number(run.loss), number(run.eval_loss), number(run.tokens_per_s), run.start ? moment(run.start) : "–",
    ];
  }

  choose() {
    const usable = this.chosen.size >= 2 && this.chosen.size <= 6;
    this.compare.setAttribute("aria-disabled", String(!usable));
    if (usable) this.compare.href = "/compare?" + [...this.chosen].map(name => `run=${encodeURIComponent(name)}`).join("&");
    else this.compare.removeAttribute("href");
  }
}

async function loadRun(name) {
  const run = new Run(await (await get(api(name))).json());
  run.name = name;
  return run;
}

// Keeps runs and page up to date. The browser itself reconnects, and says by Last-Event-ID where it was.
class Follower {
  constructor(page, state) {
    Object.assign(this, { page, state, isDirty: false });
    page.runs.forEach((run, i) => this.follow(run, i));
    setInterval(() => {
      if (this.isDirty && !document.hidden) { this.isDirty = false; this.page.draw(); }
    }, REDRAW_MS);
  }

  follow(run, i) {
    const source = new EventSource(api(run.name, "/stream?after=" + encodeURIComponent(run.cursor)));
    for (const kind of ["metrics", "experts", "domains", "ranks", "event", "run"]) {
      source.addEventListener(kind, event => {
        try {
          run.take(kind, JSON.parse(event.data));
          this.isDirty = true;
        } catch {
          // A damaged line of a file: the others still count.
        }
      });
    }
    source.addEventListener("reset", () => { source.close(); this.reload(run, i); });
    source.addEventListener("end", () => this.reloadQuietly(run));
    source.onopen = () => { this.state.textContent = "live"; };
    source.onerror = () => { this.state.textContent = "not connected, trying again"; };
  }

  // Files were cut, since the run goes on from an older checkpoint.
  async reload(run, i) {
    try {
      Object.assign(run, await loadRun(run.name));
      this.isDirty = true;
      this.follow(run, i);
    } catch {
      setTimeout(() => this.reload(run, i), LIST_MS);
    }
  }

  // At its end a run has a sample and, if it failed, the accounts of its ranks.
  async reloadQuietly(run) {
    try {
      const { sample, failures } = await loadRun(run.name);
      Object.assign(run, { sample, failures });
      this.isDirty = true;
    } catch {
      // The page stays as it is.
    }
  }
}

class LogView {
  constructor(run) {
    this.run = run;
    this.choice = element("select", { onchange: () => this.restart() }, ["launcher", ...Array.from({ length: run.record.world_size ?? 0 }, (_, rank) => rank)]
      .map(name => element("option", { value: name, selected: name === 0 }, name === "launcher" ? "launcher" : `rank ${name}`)));
    this.text = element("pre", { class: "text tall", tabindex: "0", "aria-label": "Log" });
    this.node = part("logs", "Logs", element("p", { class: "chooser" }, element("label", {}, "Log of ", this.choice)), this.text);
    this.after = "";
    this.poll();
  }

  draw() {}

  restart() {
    this.after = "";
    this.text.textContent = "";
    this.load();
  }

  async poll() {
    if (!document.hidden) await this.load();
    if (this.node.isConnected || !this.wasShown) { this.wasShown ||= this.node.isConnected; setTimeout(() => this.poll(), LOG_MS); }
  }

  async load() {
    const name = this.choice.value;
    try {
      const tail = await (await get(api(this.run.name, `/logs/${name}?after=${this.after}`))).json();
      if (name !== this.choice.value) return;
      this.after = tail.next;
      if (!tail.text) { this.text.textContent ||= ""; return; }
      const atEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 8;
      this.text.textContent = (this.text.textContent + tail.text).slice(-MOST_LOG);
      if (atEnd) this.text.scrollTop = this.text.scrollHeight;
    } catch (error) {
      this.text.textContent = `The log cannot be read: ${error.message}`;
      this.after = "";
    }
  }
}
