namespace Moe.Distributed;

/// <summary>How a rank leaves a group.</summary>
internal enum Departure
{
    /// <summary>Every member has come this far, and all leave.</summary>
    Together,

    /// <summary>This rank is done with it; of the others nothing is known.</summary>
    Alone,

    /// <summary>An operation of the group failed.</summary>
    AfterFailure,
}
