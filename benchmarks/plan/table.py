"""The table of run.sh. Of both sides the fastest round, and of a round's steps the fastest tenth: what else runs on a machine can only slow them down."""
import glob, json, os, statistics, sys

folder = sys.argv[1]


def bench_peak(memory):
    """The plan's peak, but for 2 x 64 MiB that the bench copies before its first step, in memory that activations take afterwards."""
    late = memory["late gradients"]
    held = sum(memory[key] for key in memory if key in ("process", "weights", "gradients") or key.startswith("optimizer")) - late
    return held + max(memory["end of forward"], memory["fullest of backward"], late + max(memory["communication"], memory["update"]), 128 << 20)


names = list(dict.fromkeys(os.path.basename(path).rsplit("-", 1)[0] for path in sorted(glob.glob(f"{folder}/*.plan.json"), key=os.path.getmtime)))
print("| run | predicted step, ms | measured, ms (median) | ratio | predicted peak, MiB | measured, MiB | ratio | most of it | float32 products, TFLOP/s |")
print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
for name in names:
    plans = [json.load(open(path)) for path in glob.glob(f"{folder}/{name}-*.plan.json")]
    benches = [json.load(open(path)) for path in glob.glob(f"{folder}/{name}-*.bench.json") if os.path.getsize(path)]
    if not benches:
        continue
    predicted = min(1000 * plan["step_s"] for plan in plans)
    measured = min(bench["step_ms_p10"] for bench in benches)
    middle = statistics.median(bench["step_ms"] for bench in benches)
    peak = statistics.median(bench_peak(plan["memory_bytes"]) / 2**20 for plan in plans)
    seen = statistics.median(bench["peak_gib"] * 1024 for bench in benches)
    print(f"| {name} | {predicted:.0f} | {measured:.0f} ({middle:.0f}) | {predicted / measured:.2f} | {peak:.0f} | {seen:.0f} | {peak / seen:.2f} | {plans[0]['bottleneck']} | {max(bench['machine_tflops'] for bench in benches):.2f} |")
