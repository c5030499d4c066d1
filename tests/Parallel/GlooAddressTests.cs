using System.Net;
using System.Net.Sockets;
using Moe.Distributed;
using Moe.Distributed.Gloo;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

public sealed class GlooAddressTests
{
    private static readonly InterfaceAddress[] Machine =
    [
        new("lo", IPAddress.Loopback, HasGateway: false),
        new("lo", IPAddress.IPv6Loopback, HasGateway: false),
        new("docker0", IPAddress.Parse("172.17.0.1"), HasGateway: false),
        new("eth0", IPAddress.Parse("10.0.0.5"), HasGateway: true),
        new("eth0", IPAddress.Parse("fd00::5"), HasGateway: true),
        new("ib0", IPAddress.Parse("192.168.9.5"), HasGateway: false),
    ];

    [TestCase("node0", "127.0.0.1", "10.0.0.5", TestName = "Own_name_on_the_loopback_gives_way_to_a_network_where_others_come_from_elsewhere")]
    [TestCase("node0", "::1", "fd00::5", TestName = "A_network_of_the_stores_family_comes_first")]
    [TestCase("127.0.0.1", "127.0.0.1", "127.0.0.1", TestName = "Nodes_that_are_all_this_machine_stay_on_its_loopback")]
    [TestCase("localhost", "127.0.0.1", "127.0.0.1", TestName = "Localhost_means_this_machine")]
    [TestCase("node0", "192.168.9.5", "192.168.9.5", TestName = "The_way_to_a_store_elsewhere_is_taken")]
    public void Address(string host, string towards, string expected) =>
        Assert.That(GlooAddress.Choose([IPAddress.Parse(towards)], Machine, host), Is.EqualTo(IPAddress.Parse(expected)));

    [Test]
    public void A_machine_without_a_network_has_its_loopback_alone() =>
        Assert.That(GlooAddress.Choose([IPAddress.Loopback], Machine[..2], "node0"), Is.EqualTo(IPAddress.Loopback));

    [Test]
    public void A_named_interface_is_taken() =>
        Assert.That(GlooAddress.Of("ib0", Machine, IPAddress.Loopback), Is.EqualTo(IPAddress.Parse("192.168.9.5")));

    [Test]
    public void A_named_interface_that_is_not_there_is_refused_with_those_that_are()
    {
        using var store = new StoreServer();
        var address = new StoreAddress("127.0.0.1", store.Port);
        Assert.That(
            () => GlooProcessGroup.Connect(address, 0, 2, TimeSpan.FromSeconds(2), networkInterface: "nowhere0"),
            Throws.TypeOf<CommunicationException>().With.Message.Contains("GLOO_SOCKET_IFNAME is 'nowhere0'").And.Message.Contains("it has lo"));
    }

    [Test]
    public void A_store_is_found_by_either_family([Values("127.0.0.1", "::1")] string host)
    {
        Assume.That(Socket.OSSupportsIPv6);
        using var store = new StoreServer();
        using var connection = new StoreConnection(host, store.Port, TimeSpan.FromSeconds(5));
        Assert.That(connection.LocalAddresses, Is.EqualTo([IPAddress.Parse(host)]));
    }

    [Test]
    public void Addresses_of_this_machine_are_found() =>
        Assert.That(GlooAddress.OfThisMachine(), Has.Some.Matches<InterfaceAddress>(one => one.Interface == "lo" && one.Address.Equals(IPAddress.Loopback)));
}
