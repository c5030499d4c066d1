using System.Globalization;
using System.Text;

namespace Moe.Distributed;

/// <summary>One call of a collective, with all that a message about its failure needs.</summary>
/// <param name="OutputRows">Rows from each rank, of an all-to-all.</param>
/// <param name="InputRows">Rows to each rank, of an all-to-all.</param>
internal sealed record CollectiveCall(
    ProcessGroup Group,
    Collective Collective,
    long Sequence,
    long? Step,
    int? Layer,
    string Phase,
    long Bytes,
    long[]? OutputRows = null,
    long[]? InputRows = null)
{
    // A split table is given whole up to this many ranks; beyond, its ends and its sum.
    private const int LongestTable = 32;
    private const int TableEnd = 8;

    public string Operation => Collective switch
    {
        Collective.AllReduce => "all_reduce",
        Collective.AllToAll => "all_to_all",
        Collective.AllGather => "all_gather",
        Collective.ReduceScatter => "reduce_scatter",
        Collective.Broadcast => "broadcast",
        Collective.Barrier => "barrier",
        _ => "create_group",
    };

    public CommunicationException Failed(TransferException failure)
    {
        if (failure.Cause is not null)
        {
            return failure.Cause;
        }

        var rank = Group.Members[Group.Rank];
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"rank {rank}, {Group.Rank} of {Group.Size} in {Group.Backend} group '{Group.Name}'");
        text.Append(CultureInfo.InvariantCulture, $", step {Shown(Step)}, layer {Shown(Layer)}");
        if (Phase.Length > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $", {Phase}");
        }

        text.Append(CultureInfo.InvariantCulture, $": {Operation} of {Bytes} bytes (call {Sequence}): ");
        if (failure.TimedOut)
        {
            text.Append(CultureInfo.InvariantCulture, $"not finished within {Group.Timeout.TotalSeconds:0.###} s");
            text.Append(failure.Message.Length > 0 ? "; " : "");
        }

        text.Append(failure.Message);
        if (InputRows is not null && OutputRows is not null)
        {
            text.Append(CultureInfo.InvariantCulture, $"; rows to each rank {Folded(InputRows)}, rows from each rank {Folded(OutputRows)}");
        }

        return new CommunicationException(text.ToString())
        {
            Rank = rank,
            Group = Group.Name,
            Step = Step,
            Layer = Layer,
            Operation = Operation,
            TimedOut = failure.TimedOut,
        };
    }

    internal static string Folded(long[] rows) => rows.Length <= LongestTable
        ? $"[{string.Join(", ", rows)}]"
        : $"[{string.Join(", ", rows[..TableEnd])}, ... {string.Join(", ", rows[^TableEnd..])}] ({rows.Length} ranks, {rows.Sum()} rows)";

    private static string Shown<T>(T? value)
        where T : struct, IFormattable => value?.ToString(null, CultureInfo.InvariantCulture) ?? "-";
}
