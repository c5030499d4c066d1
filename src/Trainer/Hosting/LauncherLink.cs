using System.Net;
using System.Net.Sockets;

namespace Moe.Training.Hosting;

/// <summary>The link of a rank that the launcher started: reports go over the control channel, requests come back on it.</summary>
internal sealed class LauncherLink : SupervisorLink
{
    private readonly ControlChannel _channel;
    private volatile bool _closing;

    public LauncherLink(RankEnvironment rank)
        : base(rank)
    {
        _channel = new ControlChannel(Dial(rank.Supervisor!));
        Send(new HelloMessage(rank.SupervisorToken ?? "", rank.Rank, Environment.ProcessId, Dns.GetHostName()));

        // A thread of its own: the pool may be busy when the launcher says abort, and the loop sits in a collective.
        new Thread(Listen) { IsBackground = true, Name = "supervisor" }.Start();
    }

    private protected override void Send(ControlMessage message)
    {
        // Whether the launcher has gone is Listen's business; it sees the end of the stream at the same moment.
        _closing |= message is GoodbyeMessage or FailureMessage;
        _channel.TrySend(message);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _closing = true;
            _channel.Dispose();
        }

        base.Dispose(disposing);
    }

    private static Socket Dial(string supervisor)
    {
        try
        {
            return ControlChannel.Dial(supervisor);
        }
        catch (Exception e) when (e is SocketException or FormatException)
        {
            throw new IOException($"The launcher at '{supervisor}' (MOE_SUPERVISOR) cannot be reached: {e.Message}", e);
        }
    }

    private void Listen()
    {
        while (true)
        {
            switch (_channel.Receive())
            {
                case StopMessage stop:
                    RequestStop(stop.Reason);
                    break;
                case AbortMessage abort:
                    LeaveNow(abort.Reason, ExitCodes.Signalled(15));
                    break;
                case null when _closing:
                    return;
                case null:
                    LeaveNow("the launcher is gone", ExitCodes.Signalled(15));
                    break;
                default:
                    break; // a newer launcher may say more than this rank understands
            }
        }
    }
}
