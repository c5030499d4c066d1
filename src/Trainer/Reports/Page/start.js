// Which page this is stands on the html element: the report holds its numbers, the others fetch them.
async function start() {
  const root = document.getElementById("page"), { view, run } = document.documentElement.dataset;
  if (view === "report") {
    new RunPage(root, JSON.parse(document.getElementById("data").textContent).map(snapshot => new Run(snapshot)));
    return;
  }
  if (view === "runs") {
    new RunList(root);
    return;
  }
  const names = view === "run" ? [run] : new URLSearchParams(location.search).getAll("run").slice(0, 6);
  const state = document.getElementById("state");
  try {
    if (names.length === 0) throw new Error("no run was chosen");
    const runs = await Promise.all(names.map(loadRun));
    const page = new RunPage(root, runs, view === "run" ? each => [new LogView(each)] : undefined);
    new Follower(page, state);
  } catch (error) {
    root.replaceChildren(element("p", { class: "failure", role: "alert" }, `This page cannot be shown: ${error.message}`));
  }
}

start();
