using System.Net;
using System.Net.Sockets;
using Moe.Launch.Terminal;

namespace Moe.Launch.Checks;

/// <summary>This machine's name, and its network to itself, over which Gloo's ranks and the launcher talk.</summary>
internal sealed class LoopbackCheck : Check
{
    public override string Name => "network";

    public override TimeSpan Limit => TimeSpan.FromSeconds(20);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        yield return OwnName();
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var answering = Task.Run(() => NetworkProbe.Answer(listener, TimeSpan.FromSeconds(5)));
        yield return Rate(((IPEndPoint)listener.LocalEndpoint).Port);
        listener.Stop();
        _ = answering.ContinueWith(task => task.Exception, TaskScheduler.Default);
    }

    private static Finding OwnName()
    {
        try
        {
            var addresses = Dns.GetHostAddresses(Environment.MachineName);
            return Finding.Works($"network: {Environment.MachineName} is {string.Join(", ", addresses.Select(address => address.ToString()))}");
        }
        catch (SocketException e)
        {
            return new Finding(Verdict.Warns, $"network: this machine's name, {Environment.MachineName}, does not resolve: {e.Message}", $"echo '127.0.1.1 {Environment.MachineName}' >> /etc/hosts");
        }
    }

    private static Finding Rate(int port)
    {
        try
        {
            var rate = NetworkProbe.Measure(IPAddress.Loopback, port);
            return Finding.Works(MetricText.Invariant($"network: loopback {rate.RoundTrip.TotalMicroseconds:F0} us there and back, {rate.BytesPerSecond / 1e9:F1} GB/s"));
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return new Finding(Verdict.Fails, $"network: loopback does not carry a connection: {e.Message}", "ip link set lo up, or a firewall's rule for 127.0.0.1");
        }
    }
}
