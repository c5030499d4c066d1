namespace Moe.Distributed;
