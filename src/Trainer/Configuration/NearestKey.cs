namespace Moe.Training.Configuration;

/// <summary>Finds what a misspelt or misplaced key was meant to be.</summary>
public static class NearestKey
{
    /// <summary>Longer keys are no slips of the pen, and would make the distance dear.</summary>
    private const int MaximumLength = 64;

    /// <param name="path">The unknown key's full path.</param>
    /// <returns>The path of the section or key nearest to it, by the whole path or by the last segment; null where none is near.</returns>
    public static string? To(string path)
    {
        if (path.Length > MaximumLength)
        {
            return null;
        }

        var (parent, name) = Split(path);
        var nearest = ConfigSchema.Root.Descendants
            .Select(candidate =>
            {
                var (candidateParent, candidateName) = Split(candidate.Path);
                var whole = Distance(path, candidate.Path);
                var last = Distance(name, candidateName);
                // A right name at a wrong level is nearer than a similar name at the right one.
                var isNear = whole <= Tolerance(name) || last <= Tolerance(name);
                return (candidate.Path, IsNear: isNear, Cost: double.Min(whole, last + Distance(parent, candidateParent) / 16.0));
            })
            .Where(c => c.IsNear)
            .OrderBy(c => c.Cost)
            .FirstOrDefault();
        return nearest.Path;
    }

    /// <summary>Levenshtein's distance: the fewest insertions, deletions and replacements of one character that turn a into b.</summary>
    public static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                var replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = int.Min(replaced, 1 + int.Min(row[j], row[j - 1]));
            }
        }

        return row[^1];
    }

    /// <summary>Slips forgiven in a name: one in up to three letters, two (letters swapped) in up to six, and so on.</summary>
    private static int Tolerance(string name) => (name.Length + 2) / 3;

    private static (string Parent, string Name) Split(string path)
    {
        var dot = path.LastIndexOf('.');
        return (dot < 0 ? "" : path[..dot], path[(dot + 1)..]);
    }
}
