using System.Globalization;
using System.Text;
using Moe.Torch;

namespace Moe.Distributed.Nccl;

/// <summary>What all NCCL groups of a process share: device, store, watchdog, and a failure, which ends the communication of all of them.</summary>
/// <remarks>
/// A stuck operation holds the device, whoever waits for it and by whatever means; so after a failure every communicator is given up, which lets a
/// thread go on that waits for the device. The next operation of any group, or the next wait for one, then throws the failure.
/// </remarks>
internal sealed class NcclSession : IDisposable
{
    private const int LongestAccount = 4096;

    private static readonly TimeSpan AnswerTime = TimeSpan.FromMilliseconds(600);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(10);

    private readonly Lock _gate = new();
    private readonly List<NcclCommunicator> _communicators = [];
    private readonly StoreConnection _store;
    private readonly string _meeting;
    private readonly int _worldRank;
    private readonly NcclWatchdog _watchdog;
    private volatile CommunicationException? _failure;
    private volatile bool _isAnswered;
    private bool _hasAccounted;

    /// <param name="store">Owned from here on.</param>
    /// <param name="meeting">Name of the job in the store.</param>
    /// <param name="worldRank">Of this process.</param>
    /// <param name="device">Of this process.</param>
    /// <param name="trace">Shared by all groups of the process.</param>
    public NcclSession(StoreConnection store, string meeting, int worldRank, Device device, CollectiveTrace trace)
    {
        _store = store;
        _meeting = meeting;
        _worldRank = worldRank;
        Device = device;
        Trace = trace;
        trace.Settling += Settle;
        _watchdog = new NcclWatchdog(this);
    }

    public Device Device { get; }

    public CollectiveTrace Trace { get; }

    /// <summary>The operation that was started last, over all groups.</summary>
    public CollectiveCall? LastStarted { get; set; }

    /// <summary>The first failure; null while there is none.</summary>
    public CommunicationException? Failure => _failure;

    /// <summary>Whether the failure has been thrown to whoever works with a group.</summary>
    public bool IsAnswered => _isAnswered;

    public IReadOnlyList<NcclCommunicator> Communicators
    {
        get
        {
            lock (_gate)
            {
                return [.. _communicators];
            }
        }
    }

    public void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            _isAnswered = true;
            throw new TransferException(failure.Message, failure.TimedOut) { Cause = failure };
        }
    }

    /// <summary>Makes a communicator with the other members, who call it too.</summary>
    /// <param name="key">The same on exactly the members, and never used before.</param>
    /// <param name="members">Their world ranks.</param>
    /// <param name="call">For messages.</param>
    /// <param name="timeout">The longest that the members may differ.</param>
    /// <exception cref="TransferException">Not all came in time; it names those that did not.</exception>
    public unsafe NcclCommunicator Join(string key, int[] members, CollectiveCall call, TimeSpan timeout)
    {
        var rank = Array.IndexOf(members, _worldRank);
        _store.Set(HereKey(key, _worldRank), [1]);
        AwaitMembers(key, members, timeout);
        NcclUniqueId id;
        if (rank == 0)
        {
            NcclAbi.Check(NcclAbi.GetUniqueId(&id));
            _store.Set(IdKey(key), new ReadOnlySpan<byte>(id.Content, NcclUniqueId.Bytes));
        }
        else
        {
            if (!Poll(timeout, () => _store.Has(IdKey(key))))
            {
                throw new TransferException($"rank {members[0]} came, but sent no id", timedOut: true);
            }

            _store.Get(IdKey(key), NcclUniqueId.Bytes).CopyTo(new Span<byte>(id.Content, NcclUniqueId.Bytes));
        }

        var communicator = new NcclCommunicator(this, key, members, call.Group.Timeout);
        lock (_gate)
        {
            _communicators.Add(communicator);
        }

        communicator.Join(id, rank, call);
        return communicator;
    }

    /// <summary>Ends the communication of all groups: what runs on the device is given up. The first failure stands.</summary>
    public void Fail(CommunicationException failure, bool isAnswered)
    {
        lock (_gate)
        {
            if (_failure is not null)
            {
                return;
            }

            _isAnswered = isAnswered;
            _failure = failure;
        }

        Trace.Failed(failure);
        _watchdog.Wake();
    }

    /// <summary>Gives all resources back, when no member wants anything more of another.</summary>
    public void Dispose()
    {
        _watchdog.Dispose();
        Trace.Settling -= Settle;
        foreach (var communicator in Communicators)
        {
            communicator.Dispose();
        }

        _store.Dispose();
    }

    /// <summary>Asks the members of a communicator where they are, and says who is to blame for an operation that does not end.</summary>
    public string Blame(NcclCommunicator stuck)
    {
        try
        {
            _store.Set(AskedKey, [1]);
            AnswerIfAsked();
            Poll(AnswerTime, () => stuck.Members.All(rank => _store.Has(AccountKey(rank))));
            return Verdict(stuck.Key, stuck.Started, stuck.Members, rank => _store.Has(AccountKey(rank)) ? Encoding.UTF8.GetString(_store.Get(AccountKey(rank), LongestAccount)) : null);
        }
        catch (TransferException)
        {
            return ""; // the store went with the launcher
        }
    }

    /// <summary>Tells where this rank is, once any rank wants to know.</summary>
    public void AnswerIfAsked()
    {
        if (!_hasAccounted && _store.Has(AskedKey))
        {
            _hasAccounted = true;
            var account = Encoding.UTF8.GetBytes(Account(LastStarted, Communicators.Select(one => (one.Key, one.Started))));
            _store.Set(AccountKey(_worldRank), account.AsSpan(0, Math.Min(account.Length, LongestAccount)));
        }
    }

    /// <summary>What a rank says of itself: its last operation, and how many each communicator has started.</summary>
    internal static string Account(CollectiveCall? last, IEnumerable<(string Key, long Started)> communicators)
    {
        var text = new StringBuilder(last is null
            ? "nothing"
            : string.Create(CultureInfo.InvariantCulture, $"{last.Operation} of group '{last.Group.Name}' (call {last.Sequence}, step {Text(last.Step)}, layer {Text(last.Layer)})"));
        foreach (var (key, started) in communicators)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n{started} {key}");
        }

        return text.ToString();
    }

    /// <summary>Names the members that gave no account, and those that have started fewer operations than this rank.</summary>
    /// <param name="key">The communicator.</param>
    /// <param name="started">Operations of it that this rank has started.</param>
    /// <param name="members">World ranks.</param>
    /// <param name="accountOf">A rank's account; null where there is none.</param>
    internal static string Verdict(string key, long started, int[] members, Func<int, string?> accountOf)
    {
        var silent = new List<int>();
        var behind = new List<string>();
        foreach (var rank in members)
        {
            if (accountOf(rank) is not { } account)
            {
                silent.Add(rank);
                continue;
            }

            var lines = account.Split('\n');
            var own = lines.Skip(1).Select(line => line.Split(' ', 2)).FirstOrDefault(line => line[^1] == key);
            if (own is null || long.Parse(own[0], CultureInfo.InvariantCulture) < started)
            {
                behind.Add($"rank {rank} has not come to it, the last that it started is {lines[0]}");
            }
        }

        string[] parts = [.. silent.Count > 0 ? [$"no word came from rank {string.Join(", ", silent)}"] : (string[])[], .. behind];
        return parts.Length > 0 ? string.Join("; ", parts) : "every member has started it: they disagree on the sizes, or a connection is stuck";
    }

    private static string Text<T>(T? value)
        where T : struct, IFormattable => value?.ToString(null, CultureInfo.InvariantCulture) ?? "-";

    private static bool Poll(TimeSpan timeout, Func<bool> isThere)
    {
        var begin = System.Diagnostics.Stopwatch.GetTimestamp();
        while (!isThere())
        {
            if (System.Diagnostics.Stopwatch.GetElapsedTime(begin) > timeout)
            {
                return false;
            }

            Thread.Sleep(PollInterval);
        }

        return true;
    }

    private void AwaitMembers(string key, int[] members, TimeSpan timeout)
    {
        var missing = members.ToList();
        if (!Poll(timeout, () => IsAnyMissing() == 0))
        {
            throw new TransferException($"no word came from rank {string.Join(", ", missing)}", timedOut: true);
        }

        int IsAnyMissing()
        {
            ThrowIfFailed();
            missing.RemoveAll(rank => _store.Has(HereKey(key, rank)));
            return missing.Count;
        }
    }

    private void Settle()
    {
        foreach (var communicator in Communicators)
        {
            communicator.Settle();
        }
    }

    private string AskedKey => $"{_meeting}/nccl/asked";

    private string AccountKey(int rank) => $"{_meeting}/nccl/account/{rank}";

    private string HereKey(string key, int rank) => $"{_meeting}/nccl/{key}/here/{rank}";

    private string IdKey(string key) => $"{_meeting}/nccl/{key}/id";
}
