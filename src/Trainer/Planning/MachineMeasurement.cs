using System.Diagnostics;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>Measures what this machine can do for a configuration: its own kernels, at its own shapes, with as many workers as ranks would run at once.</summary>
/// <remarks>
/// Workers are threads that do the same at the same time, so that they share caches and memory as ranks do. Passes over all probes come first,
/// unmeasured, so that the runtime has compiled what is measured.
/// </remarks>
public static class MachineMeasurement
{
    private const double CopyIns = 2; // a message between two processes is copied into memory that both see, and out of it
    private const int Meetings = 30;

    // The runtime compiles in three stages, each some 100 ms after nothing new was called.
    private const int WarmUps = 3;
    private static readonly TimeSpan Compilation = TimeSpan.FromMilliseconds(160);
    private static readonly TimeSpan WarmUp = TimeSpan.FromMilliseconds(8);
    private static readonly TimeSpan Measured = TimeSpan.FromMilliseconds(40);

    /// <summary>Measures for two or three seconds.</summary>
    /// <param name="config">Whose kernels and shapes.</param>
    /// <param name="ranks">That would share this machine.</param>
    /// <exception cref="ConfigException">The model's embedding or its experts are too large to be worked on here.</exception>
    public static DeviceRecord Measure(RunConfig config, int ranks)
    {
        var processMemory = ProcessMemory();
        var cores = Environment.ProcessorCount;
        var workers = Math.Min(ranks, cores);
        var threads = config.Parallel.Threads ?? Math.Max(1, cores / ranks);
        TorchRuntime.Threads = threads;
        using var shapes = new PlannedModel(config, ranks);
        RefuseTooLarge(shapes, workers);
        using var probes = new MachineProbes(shapes);
        var times = OnWorkers(workers, threads, probes);
        var copyRate = MachineProbes.CopiedBytes / times[MachineProbes.Copy];
        return new DeviceRecord
        {
            Name = "cpu",
            Description = FormattableString.Invariant($"{Environment.MachineName}: {cores} cores, measured with {workers} worker(s) of {threads} thread(s), for the shapes of '{config.Run.Name}'"),
            Memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
            ProcessMemory = processMemory,
            SharedCores = workers,
            Peak = probes.Products.GroupBy(shape => shape.Type).ToDictionary(alike => alike.Key, alike => LargeRate(times, alike.Key)),
            Products = Tables(probes.Products.Where(shape => shape.Groups == 0), times),
            GroupedProducts = Tables(probes.Products.Where(shape => shape.Groups > 0), times),
            Attention = new Dictionary<string, double> { [ConfigChoices.Spelling(config.Train.Precision)] = probes.AttentionOperations / times[MachineProbes.Attention] },
            CopyRate = copyRate,
            LaunchTime = times[MachineProbes.Launch],
            Kernels = probes.KernelElements.ToDictionary(kernel => kernel.Key, kernel => times[kernel.Key] / kernel.Value),
            InsideNode = new LinkRate(copyRate / 2 / CopyIns, MessageTime()),
            BetweenNodes = new LinkRate(copyRate / 2 / CopyIns, MessageTime()),
            Collectives = CollectiveForm.Direct,
            Straggling = ranks == 1 ? 1 : Straggling(ranks, workers, threads, probes),
        };
    }

    private static double LargeRate(Dictionary<string, double> times, string type) => times.TryGetValue(MachineProbes.Large + type, out var time)
        ? MachineProbes.LargeOperations / time
        : throw new InvalidOperationException($"no large product of {type} was measured");

    private static Dictionary<string, IReadOnlyList<ProductRate>> Tables(IEnumerable<ProductShape> shapes, Dictionary<string, double> times) =>
        shapes.GroupBy(shape => shape.Type).ToDictionary(
            alike => alike.Key,
            alike => (IReadOnlyList<ProductRate>)[.. alike.Select(shape => new ProductRate(shape.Rows, shape.Columns, shape.Depth, Rate(times, shape)))]);

    private static double Rate(Dictionary<string, double> times, ProductShape shape) =>
        MachineProbes.Operations(shape) / times[MachineProbes.Name(shape)];

    // Seconds of one call of each probe: a worker's median, the workers' mean.
    private static Dictionary<string, double> OnWorkers(int workers, int threads, MachineProbes probes)
    {
        using var meeting = new Barrier(workers);
        var results = new Dictionary<string, double>[workers];
        Run(workers, threads, worker =>
        {
            var times = new Dictionary<string, double>();
            using var scope = new TensorScope();
            for (var round = 0; round < WarmUps; round++)
            {
                foreach (var (_, make) in probes.All)
                {
                    using var probeScope = new TensorScope();
                    Repeat(make(), WarmUp);
                }

                Thread.Sleep(Compilation);
            }

            foreach (var (name, make) in probes.All)
            {
                using var probeScope = new TensorScope();
                var work = make();
                Repeat(work, WarmUp);
                meeting.SignalAndWait();
                times[name] = Repeat(work, Measured);
            }

            results[worker] = times;
        });
        return probes.All.ToDictionary(probe => probe.Name, probe => results.Average(times => times[probe.Name]));
    }

    // How much longer than its mean a piece of work takes where all ranks wait for the last after each: others' load, the scheduler, the caches.
    private static double Straggling(int ranks, int workers, int threads, MachineProbes probes)
    {
        double TimePerPiece(int count, bool meet)
        {
            var arrived = 0;
            var time = new double[count];
            Run(count, threads, worker =>
            {
                using var scope = new TensorScope();
                var work = probes.Typical();
                work();
                Meet(ref arrived, count);
                var clock = Stopwatch.StartNew();
                for (var i = 2; i < Meetings + 2; i++)
                {
                    work();
                    if (meet)
                    {
                        Meet(ref arrived, i * count);
                    }
                }

                time[worker] = clock.Elapsed.TotalSeconds / Meetings;
            });
            return time.Average();
        }

        var alone = TimePerPiece(workers, meet: false);
        return Math.Max(1, TimePerPiece(ranks, meet: true) / (alone * Math.Max(1, (double)ranks / workers)));
    }

    // As MPI waits: a rank that yields still takes its turns of a core that others work on.
    private static void Meet(ref int arrived, int all)
    {
        Interlocked.Increment(ref arrived);
        while (Volatile.Read(ref arrived) < all)
        {
            Thread.Yield();
        }
    }

    // One message there and one back, between two threads that yield while they wait, as ranks do.
    private static double MessageTime()
    {
        const int Rounds = 2000;
        var turn = 0;
        var other = new Thread(() =>
        {
            for (var i = 0; i < Rounds; i++)
            {
                while (Volatile.Read(ref turn) != (2 * i) + 1)
                {
                    Thread.Yield();
                }

                Volatile.Write(ref turn, (2 * i) + 2);
            }
        });
        other.Start();
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < Rounds; i++)
        {
            Volatile.Write(ref turn, (2 * i) + 1);
            while (Volatile.Read(ref turn) != (2 * i) + 2)
            {
                Thread.Yield();
            }
        }

        var time = clock.Elapsed.TotalSeconds / (2 * Rounds);
        other.Join();
        return time;
    }

    private static void Run(int count, int threads, Action<int> work)
    {
        var all = Enumerable.Range(0, count).Select(worker => new Thread(() =>
        {
            TorchRuntime.Threads = threads; // OpenMP counts by the thread that asks
            work(worker);
        })).ToArray();
        Array.ForEach(all, thread => thread.Start());
        Array.ForEach(all, thread => thread.Join());
    }

    // Half of the calls were quicker: what interrupts a few of them says nothing of the work.
    private static double Repeat(Action work, TimeSpan duration)
    {
        var clock = Stopwatch.StartNew();
        var times = new List<double>();
        var before = TimeSpan.Zero;
        do
        {
            using var scope = new TensorScope();
            work();
            var now = clock.Elapsed;
            times.Add((now - before).TotalSeconds);
            before = now;
        }
        while (before < duration);
        return times.Order().ElementAt(times.Count / 2);
    }

    // What the probes have whole: the embedding, and a rank's experts of a layer, each with its gradient.
    private static void RefuseTooLarge(PlannedModel shapes, int workers)
    {
        var model = shapes.Config.Model;
        var largest = Math.Max((double)model.Vocabulary, 3.0 * shapes.LocalExperts * model.Moe.ExpertWidth) * model.Width;
        var (bytes, memory) = (2 * largest * shapes.WideSize * workers, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        if (bytes > memory / 2.0)
        {
            throw new ConfigException([new ConfigFault(
                ConfigOrigin.Default, "", $"this machine cannot be measured with the model's embedding and experts, which would take {ByteSize.Write((long)bytes)} of its {ByteSize.Write(memory)}",
                "a described device, as in launch plan --device h100")]);
        }
    }

    // Before its tensors a rank takes what this process does, within some MiB: the same runtime, the same libraries.
    private static double ProcessMemory()
    {
        using var one = Tensor.Ones([1]);
        using var process = Process.GetCurrentProcess();
        return process.WorkingSet64;
    }
}
