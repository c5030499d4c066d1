namespace Moe.Distributed;

/// <summary>How a reduction joins the values of the ranks. A NaN on any rank is the result of each of them.</summary>
public enum ReduceOperation
{
    Sum,
    Max,
    Min,
}
