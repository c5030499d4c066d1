using System.Diagnostics;
using System.Globalization;
using Moe.Launch.Runs;
using Moe.Launch.Terminal;
using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>
/// Watches over the ranks of one run from their start until the last of their processes is gone: passes their reports on, passes a request
/// to stop to them, and when one fails ends the others and says which was first.
/// </summary>
/// <remarks>
/// One loop handles one happening after the other, so nothing here is locked. The order of ending: abort over the control channel (a rank
/// then leaves at once), SIGTERM, SIGKILL, each to whole sessions; the loop returns when none of their processes is left.
/// </remarks>
internal sealed class Supervisor : IDisposable
{
    // A rank that only noticed another's end may report before the launcher sees that end; a hung rank never reports.
    private static readonly TimeSpan SecondaryPatience = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan PrimaryPatience = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan AbortGrace = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan TerminateGrace = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan KillInterval = TimeSpan.FromMilliseconds(200);

    // What a rank sent just before its end may be read after its end is known.
    private static readonly TimeSpan LastWordsPatience = TimeSpan.FromMilliseconds(300);

    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(100);

    private readonly FailureLedger _failures = new();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly RankPlan _plan;
    private readonly RunRecorder _recorder;
    private readonly IRunView _view;
    private readonly ControlServer _server;
    private readonly RankState[] _ranks;
    private readonly NodeRoster _nodes;
    private readonly TimeSpan _startPatience;

    private RankProcesses _processes = RankProcesses.None;
    private int? _storePort;
    private int _running;
    private long _lastStep;
    private string? _stopReason;
    private int? _leaveCode;
    private RankFailure? _ownFailure;
    private Ending _ending;
    private TimeSpan? _nextStage;

    /// <param name="plan">What runs.</param>
    /// <param name="recorder">Takes what happens into run.json and events.jsonl.</param>
    /// <param name="view">Shows it.</param>
    /// <param name="server">Where ranks, and the launchers of other nodes, connect; not owned.</param>
    /// <param name="startPatience">How long a rank may take to report for the first time.</param>
    public Supervisor(RankPlan plan, RunRecorder recorder, IRunView view, ControlServer server, TimeSpan startPatience)
    {
        _server = server;
        _plan = plan;
        _recorder = recorder;
        _view = view;
        _startPatience = startPatience;
        _ranks = [.. Enumerable.Range(0, plan.WorldSize).Select(rank => new RankState(rank))];
        _nodes = new NodeRoster(plan, server, _ranks);
    }

    // The stages of ending the ranks, in order.
    private enum Ending
    {
        NotYet,
        Aborted,
        Terminated,
        Killed,
    }

    /// <summary>Asks all ranks to stop after their step.</summary>
    public void RequestStop(string signal) => Post(new StopAsked(signal));

    /// <summary>Ends all ranks at once.</summary>
    public void RequestLeave(string signal, int number) => Post(new LeaveAsked(signal, number));

    /// <summary>Ends all ranks because the launcher itself found that the run cannot go on.</summary>
    public void RequestEnd(RankFailure failure) => Post(new EndAsked(failure));

    /// <summary>Starts the ranks and returns when all are gone.</summary>
    /// <param name="storePort">Port of the TCP store for Gloo; null where none is needed.</param>
    /// <param name="log">Takes what the children print.</param>
    public async Task<RunOutcome> RunAsync(int? storePort, TextWriter log)
    {
        _storePort = storePort;
        _processes = RankSpawner.Start(
            _plan, new RankVariables(_server.Address, _server.Token, storePort), log, (rank, code) => Post(new RankEnded(rank, code)));
        _running = _processes.All.Count;
        foreach (var process in _processes.All)
        {
            if (process.Rank is { } rank)
            {
                _ranks[rank].ProcessId = process.Id;
            }

            _ = process.Ended.ContinueWith(
                ended => Post(new ProcessEnded(process, ended.Result)), TaskScheduler.Default);
        }

        try
        {
            using var timer = new Timer(_ => Post(new Ticked()), null, Tick, Tick);
            while (_running > 0 || _nodes.IsWaitedFor || Array.Exists(_ranks, rank => !rank.IsOver))
            {
                Handle(await _server.Happenings.Reader.ReadAsync().ConfigureAwait(false));
                Advance();
            }
        }
        finally
        {
            await _processes.KillRemainsAsync().ConfigureAwait(false);
        }

        var outcome = Outcome();
        await _server.FarewellAsync(outcome.ExitCode).ConfigureAwait(false);
        return outcome;
    }

    public void Dispose() => _processes.Dispose();

    private void Handle(Happening happening)
    {
        switch (happening)
        {
            case RankSaid said:
                Handle(_ranks[said.Rank], said.Message);
                break;
            case RankLeft left:
                _ranks[left.Rank].IsConnected = false;
                EnterIfSilent(_ranks[left.Rank]);
                break;
            case RankEnded ended:
                Ended(_ranks[ended.Rank], ended.ExitCode);
                break;
            case ProcessEnded ended:
                Handle(ended);
                break;
            case NodeArrived arrived:
                Welcome(arrived.Launcher);
                break;
            case NodeRefused refused:
                Blame(0, new RankFailure(0, Step: 0, ExitCodes.Usage, refused.Reason, Try: "the same command on every node; under Slurm: launch slurm render"));
                break;
            case NodeFailed failed:
                Blame(failed.Node, failed.Failure);
                break;
            case NodeLeft left:
                Leave(left.Node);
                break;
            case StopAsked stop:
                Stop(stop.Signal);
                break;
            case LeaveAsked leave:
                Leave(leave);
                break;
            case EndAsked { Failure: var failure } when _ending == Ending.NotYet:
                _ownFailure = failure;
                End(Ending.Aborted);
                break;
        }
    }

    private void Handle(RankState rank, ControlMessage message)
    {
        switch (message)
        {
            case HelloMessage hello:
                rank.IsConnected = true;
                rank.ProcessId = hello.ProcessId;
                Welcome(rank);
                break;
            case InfoMessage info:
                _recorder.Running(info);
                _view.Info(info);
                break;
            case MetricsMessage metrics:
                _lastStep = (long)metrics.Row.GetValueOrDefault("step", _lastStep);
                _view.Metrics(metrics);
                break;
            case EventMessage e:
                _recorder.Event(e.Kind, e.Step, e.Text);
                _view.Event(e);
                break;
            case TextMessage or ProfileMessage or KernelsMessage:
                _view.Show(message);
                break;
            case FailureMessage { Failure: var failure }:
                rank.Failure = failure;
                _recorder.Event(failure.Secondary ? "secondary_failure" : "failure", failure.Step, $"rank {rank.Rank}: {failure.What}");
                _failures.Enter(rank);
                break;
            case GoodbyeMessage goodbye:
                rank.Goodbye = goodbye.ExitCode;
                break;
        }
    }

    // A rank may arrive after the decision to stop, or to end, was made.
    private void Welcome(RankState rank)
    {
        if (_ending != Ending.NotYet)
        {
            _server.Send(rank.Rank, new AbortMessage("the run is over"));
        }
        else if (_stopReason is not null)
        {
            _server.Send(rank.Rank, new StopMessage(_stopReason));
        }
    }

    private void Welcome(NodeHelloMessage launcher)
    {
        _nodes.Enter(launcher.Node);
        _recorder.Event("node", _lastStep, $"the launcher of node {launcher.Node} is here: {launcher.Host}, pid {launcher.ProcessId}");
        if (_ending == Ending.NotYet)
        {
            _nodes.Begin(launcher.Node, _storePort);
        }
        else
        {
            _nodes.GiveUp(launcher.Node, _clock.Elapsed); // nothing was started there
        }
    }

    // A failure of a node as a whole stands in the account of its first rank.
    private void Blame(int node, RankFailure failure)
    {
        if (_ranks[_plan.RanksOf(node).First()] is { HasSpoken: false } rank)
        {
            rank.Failure = failure;
            _recorder.Event("failure", _lastStep, failure.What);
            _failures.Enter(rank);
        }

        if (node > 0)
        {
            _nodes.GiveUp(node, _clock.Elapsed);
        }
    }

    private void Leave(int node)
    {
        if (_nodes.Leave(node))
        {
            Blame(node, new RankFailure(
                _plan.RanksOf(node).First(), Step: 0, ExitCodes.Failed, $"the launcher of node {node} is gone without a word: it was killed, or its machine is down"));
        }
    }

    private void Post(Happening happening) => _server.Happenings.Writer.TryWrite(happening);

    private void Handle(ProcessEnded ended)
    {
        _running--;
        foreach (var rank in _ranks.Where(rank => ended.Process.Rank is null || ended.Process.Rank == rank.Rank))
        {
            Ended(rank, ended.Process.Rank is null ? null : ended.ExitCode); // mpirun's own code says nothing of a single rank
        }
    }

    private void Ended(RankState rank, int? exitCode)
    {
        rank.ExitCode ??= exitCode;
        rank.EndedAt ??= _clock.Elapsed;
    }

    private void EnterIfSilent(RankState rank)
    {
        if (rank.HasSpoken || rank.IsLost)
        {
            return;
        }

        rank.IsLost = true;
        if (!_failures.IsClosed)
        {
            _recorder.Event("lost", _lastStep, $"rank {rank.Rank} (pid {rank.ProcessId}) ended without a word");
            _failures.Enter(rank);
        }
    }

    private void Stop(string signal)
    {
        if (_stopReason is not null)
        {
            return; // Slurm tells each launcher
        }

        _stopReason = signal;
        _server.SendAll(new StopMessage(signal));
        _recorder.Stopping(signal);
        _view.Notice($"{signal}: stopping after this step, with a checkpoint; {(_plan.Placement.Job is null ? "once more" : "SIGINT twice")} leaves at once");
    }

    private void Leave(LeaveAsked leave)
    {
        _leaveCode ??= ExitCodes.Signalled(leave.Number);
        _view.Notice($"{leave.Signal} again: ending {_plan.WorldSize} rank(s) at once");
        _recorder.Event("leave", _lastStep, leave.Signal);
        End(Ending.Killed);
    }

    // Time-outs: from the first failure to the end of the other ranks, and of a rank that never reports.
    private void Advance()
    {
        foreach (var rank in _ranks.Where(rank => !rank.IsConnected && _clock.Elapsed - rank.EndedAt > LastWordsPatience))
        {
            EnterIfSilent(rank);
        }

        if (_ending == Ending.NotYet && !_failures.IsEmpty)
        {
            _nextStage = Earlier(_nextStage, _clock.Elapsed + (_failures.HasPrimary ? PrimaryPatience : SecondaryPatience));
        }
        else if (_ending == Ending.NotYet && _clock.Elapsed > _startPatience && Array.Find(_ranks, rank => !rank.IsConnected && !rank.IsOver) is { } late)
        {
            var node = _plan.NodeOf(late.Rank);
            var seconds = _startPatience.TotalSeconds.ToString("0", CultureInfo.InvariantCulture);
            var what = _nodes.IsHere(node) ? $"did not report within {seconds} s of its start" : $"the launcher of node {node} did not come within {seconds} s";
            late.Failure = new RankFailure(late.Rank, Step: 0, ExitCodes.Failed, what);
            _failures.Enter(late);
        }

        if (_nextStage <= _clock.Elapsed)
        {
            End(_ending + 1);
        }
    }

    private static TimeSpan Earlier(TimeSpan? a, TimeSpan b) => a < b ? a.Value : b;

    private void End(Ending stage)
    {
        _failures.IsClosed = true;
        _nodes.GiveUpAbsent(_clock.Elapsed);
        _ending = (Ending)Math.Min((int)stage, (int)Ending.Killed);
        switch (_ending)
        {
            case Ending.Aborted:
                _server.SendAll(new AbortMessage("another rank failed"));
                _nextStage = _clock.Elapsed + AbortGrace;
                break;
            case Ending.Terminated:
                SignalAll(ProcessSession.Terminate);
                _nextStage = _clock.Elapsed + TerminateGrace;
                break;
            case Ending.Killed:
                SignalAll(ProcessSession.Kill);
                _nodes.DropAbsent();
                _nextStage = _clock.Elapsed + KillInterval; // again: a process may have forked meanwhile
                break;
        }
    }

    private void SignalAll(int signal)
    {
        _processes.Signal(signal);
        _server.SendToNodes(new SignalMessage(signal));
    }

    private RunOutcome Outcome()
    {
        if (_leaveCode is { } code)
        {
            return new RunOutcome(code, _clock.Elapsed);
        }

        if (_ownFailure is { } own)
        {
            return new RunOutcome(own.ExitCode, _clock.Elapsed, new RootCause(own with { Step = _lastStep }, ProcessId: null, _ranks.Length));
        }

        if (!_failures.IsEmpty)
        {
            var cause = _failures.Cause(_ranks, LastWords);
            cause = cause with { Step = Math.Max(cause.Step, _lastStep) };
            var others = _ranks.Count(rank => rank.Rank != cause.Rank && rank.Goodbye is null);
            return new RunOutcome(cause.ExitCode, _clock.Elapsed, new RootCause(cause, _ranks[cause.Rank].ProcessId, others));
        }

        foreach (var rank in _ranks.Where(rank => rank.ExitCode is { } exit && exit != rank.Goodbye))
        {
            _view.Notice($"rank {rank.Rank} said goodbye with {rank.Goodbye} but its process ended with {rank.ExitCode}; see {_plan.Folder.LogFile(rank.Rank)}");
        }

        // All ranks end for the same reason; should they not, an error outranks success.
        return new RunOutcome(_ranks.Select(rank => rank.Goodbye!.Value).FirstOrDefault(goodbye => goodbye != 0), _clock.Elapsed);
    }

    private IReadOnlyList<string> LastWords(int rank)
    {
        var fromLog = RankOutput.LastLines(_plan.Folder.LogFile(rank), 3);
        return fromLog.Count > 0 ? fromLog : _processes.LastLines(rank, 3);
    }
}
