using System.Net;

namespace Moe.Distributed.Gloo;

/// <summary>An address of this machine.</summary>
/// <param name="Interface">As in <c>eth0</c>.</param>
/// <param name="Address">Of the interface.</param>
/// <param name="HasGateway">Whether the interface leads on to other networks.</param>
internal readonly record struct InterfaceAddress(string Interface, IPAddress Address, bool HasGateway);
