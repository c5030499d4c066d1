namespace Moe.Launch.Checks;

/// <summary>One thing that training needs, or can use. A check that throws has failed, one that outlasts its limit is left behind.</summary>
internal abstract class Check
{
    /// <summary>What it is about, in a word or two.</summary>
    public abstract string Name { get; }

    /// <summary>How long it may take; what it starts ends before.</summary>
    public virtual TimeSpan Limit => TimeSpan.FromSeconds(10);

    /// <summary>Looks, and says what it found: at least one line.</summary>
    /// <param name="context">What is looked at.</param>
    public abstract IEnumerable<Finding> Examine(DoctorContext context);
}
