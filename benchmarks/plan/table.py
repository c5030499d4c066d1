"""The table of run.sh: medians over the rounds, and the largest share that takes most of the predicted time."""
import glob, json, os, statistics, sys

folder = sys.argv[1]
names = list(dict.fromkeys(os.path.basename(path).rsplit("-", 1)[0] for path in sorted(glob.glob(f"{folder}/*.plan.json"), key=os.path.getmtime)))
print("| run | predicted step, ms | measured, ms | ratio | predicted peak, MiB | measured, MiB | ratio | most of it |")
print("| --- | --- | --- | --- | --- | --- | --- | --- |")
for name in names:
    plans = [json.load(open(path)) for path in glob.glob(f"{folder}/{name}-*.plan.json")]
    benches = [json.load(open(path)) for path in glob.glob(f"{folder}/{name}-*.bench.json")]
    predicted = statistics.median(1000 * plan["step_s"] for plan in plans)
    measured = statistics.median(bench["step_ms"] for bench in benches)
    peak = statistics.median(plan["peak_bytes"] / 2**20 for plan in plans)
    seen = statistics.median(bench["peak_gib"] * 1024 for bench in benches)
    print(f"| {name} | {predicted:.0f} | {measured:.0f} | {predicted / measured:.2f} | {peak:.0f} | {seen:.0f} | {peak / seen:.2f} | {plans[0]['bottleneck']} |")
