using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Hosting;

/// <summary>Who may speak on the control channel, and that what is said arrives as it was.</summary>
[CancelAfter(20_000)]
internal sealed class ControlChannelTests
{
    private Channel<Happening> _happenings = null!;
    private ControlServer _server = null!;

    [SetUp]
    public void StartServer()
    {
        _server = new ControlServer(nodes: 2, ranksPerNode: 1);
        _happenings = _server.Happenings;
    }

    [TearDown]
    public void StopServer() => _server.Dispose();

    [Test]
    public async Task Messages_arrive_in_order_and_unchanged(CancellationToken cancellation)
    {
        using var rank = Dial();
        rank.TrySend(new HelloMessage(_server.Token, 1, 4711, "host"));
        var ranks = new Dictionary<string, double[]> { ["perf/step_ms"] = [20.5, 21] };
        rank.TrySend(new MetricsMessage(new Dictionary<string, double> { ["train/loss"] = double.NaN, ["step"] = 3 }, [0.5, 1.5], ranks));
        rank.TrySend(new TextMessage("Äpfel \"und\"\tBirnen\u2028"));
        rank.Dispose();

        Assert.That(await NextAsync<RankSaid>(cancellation), Has.Property("Rank").EqualTo(1));
        var metrics = (MetricsMessage)(await NextAsync<RankSaid>(cancellation)).Message;
        Assert.That(metrics.Row["train/loss"], Is.NaN);
        Assert.That(metrics.ExpertLoad, Is.EqualTo(new[] { 0.5, 1.5 }));
        Assert.That(metrics.Ranks!["perf/step_ms"], Is.EqualTo(new[] { 20.5, 21 }));
        Assert.That((await NextAsync<RankSaid>(cancellation)).Message, Is.EqualTo(new TextMessage("Äpfel \"und\"\tBirnen\u2028")));
        Assert.That((await NextAsync<RankLeft>(cancellation)).Rank, Is.EqualTo(1));
    }

    [Test]
    public void Stranger_is_shown_the_door([Values("another token", "")] string token)
    {
        using var stranger = Dial();
        stranger.TrySend(new HelloMessage(token, 1, 4711, "host"));

        Assert.That(stranger.Receive(), Is.Null, "the server closes");
        Assert.That(_happenings.Reader.TryRead(out _), Is.False);
    }

    [TestCase(-1), TestCase(2)]
    public void Rank_outside_the_world_is_refused(int rank)
    {
        using var stranger = Dial();
        stranger.TrySend(new HelloMessage(_server.Token, rank, 4711, "host"));

        Assert.That(stranger.Receive(), Is.Null);
    }

    [Test]
    public async Task Second_process_with_the_same_rank_is_refused(CancellationToken cancellation)
    {
        using var first = Dial();
        first.TrySend(new HelloMessage(_server.Token, 0, 1, "host"));
        await NextAsync<RankSaid>(cancellation);
        using var second = Dial();
        second.TrySend(new HelloMessage(_server.Token, 0, 2, "host"));

        Assert.That(second.Receive(), Is.Null);
        _server.Send(0, new StopMessage("SIGINT"));
        Assert.That(first.Receive(), Is.EqualTo(new StopMessage("SIGINT")));
    }

    private ControlChannel Dial()
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(IPEndPoint.Parse(_server.Address));
        return new ControlChannel(socket);
    }

    private async Task<T> NextAsync<T>(CancellationToken cancellation)
        where T : Happening => (T)await _happenings.Reader.ReadAsync(cancellation);
}
