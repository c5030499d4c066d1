using Moe.Distributed.Gloo;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

public sealed class GlooTransferTests
{
    [TestCase("[../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 2000ms for recv operation to complete", true)]
    [TestCase("[../gloo/transport/tcp/unbound_buffer.cc:136] Timed out waiting 2000ms for send operation to complete", true)]
    [TestCase("[../gloo/transport/tcp/pair.cc:575] Application timeout caused pair closure", true)]
    [TestCase("[../gloo/transport/tcp/pair.cc:799] connect [10.0.0.1]:4711: Connect timeout", true)]
    [TestCase("Socket Timeout", true)]
    [TestCase("[../gloo/transport/tcp/pair.cc:589] Connection closed by peer [10.0.0.1]:4711", false)]
    [TestCase("[../gloo/transport/tcp/pair.cc:598] Read error [10.0.0.1]:4711: Connection reset by peer", false)]
    public void A_time_out_is_known_however_it_is_worded(string message, bool isTimeout) =>
        Assert.That(GlooTransfer.IsTimeout(message), Is.EqualTo(isTimeout));
}
