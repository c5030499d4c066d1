using System.Net;
using System.Net.NetworkInformation;

namespace Moe.Distributed.Gloo;

/// <summary>Chooses the address of this machine to which the other ranks of a Gloo group connect.</summary>
internal static class GlooAddress
{
    /// <summary>Addresses of the interfaces that are up.</summary>
    public static IReadOnlyList<InterfaceAddress> OfThisMachine() =>
    [
        .. from network in NetworkInterface.GetAllNetworkInterfaces()
        where network.OperationalStatus != OperationalStatus.Down
        let properties = network.GetIPProperties()
        from unicast in properties.UnicastAddresses
        where !unicast.Address.IsIPv6LinkLocal
        select new InterfaceAddress(network.Name, unicast.Address, properties.GatewayAddresses.Count > 0),
    ];

    /// <summary>For ranks on several machines: the address on the way to the store, unless that is one that the others cannot reach.</summary>
    /// <param name="towards">Addresses of this machine on the way to the store; the first comes first.</param>
    /// <param name="machine">All addresses of this machine.</param>
    /// <param name="storeHost">As it was given.</param>
    public static IPAddress Choose(IReadOnlyList<IPAddress> towards, IReadOnlyList<InterfaceAddress> machine, string storeHost)
    {
        // A machine may know its own name as an address of its loopback (Debian's /etc/hosts: 127.0.1.1). Then that is the way to the store for the ranks beside it.
        var isHere = storeHost == "localhost" || (IPAddress.TryParse(storeHost, out var given) && IPAddress.IsLoopback(given));
        IEnumerable<IPAddress> reachable = isHere ? [] : [.. towards, .. Ordered(machine, towards[0])];
        return reachable.FirstOrDefault(address => !IPAddress.IsLoopback(address)) ?? towards[0];
    }

    /// <summary>The address of an interface that the user chose.</summary>
    /// <param name="name">GLOO_SOCKET_IFNAME.</param>
    /// <param name="machine">All addresses of this machine.</param>
    /// <param name="towards">The address on the way to the store, whose family is preferred.</param>
    /// <exception cref="TransferException">There is no such interface, or it has no address.</exception>
    public static IPAddress Of(string name, IReadOnlyList<InterfaceAddress> machine, IPAddress towards) =>
        Ordered([.. machine.Where(one => one.Interface == name)], towards).FirstOrDefault() ?? throw new TransferException(
            $"GLOO_SOCKET_IFNAME is '{name}', but this machine has no such interface with an address; it has {string.Join(", ", machine.Select(one => one.Interface).Distinct())}");

    private static IEnumerable<IPAddress> Ordered(IReadOnlyList<InterfaceAddress> machine, IPAddress towards) => machine
        .OrderByDescending(one => one.HasGateway)
        .ThenByDescending(one => one.Address.AddressFamily == towards.AddressFamily)
        .Select(one => one.Address);
}
