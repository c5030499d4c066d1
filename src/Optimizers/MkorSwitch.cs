namespace Moe.Optimizers;

/// <summary>Settings of <see cref="MkorSwitch"/>.</summary>
/// <param name="Window">Updates over which the rate of the loss is taken, at least 1.</param>
/// <param name="Theta">Share of the reference rate under which the loss falls too slowly, in [0, 1].</param>
/// <param name="MinStep">No switch before this many steps, at least 0.</param>
/// <param name="WarmupSteps">Steps before the first window, at least 0: in the learning rate's warm-up rates mean nothing.</param>
/// <param name="Smoothing">Share of the running mean of the loss kept a step, in [0, 1).</param>
public sealed record MkorSwitchOptions(long Window = 50, double Theta = 0.1, long MinStep = 0, long WarmupSteps = 0, double Smoothing = 0.98);

/// <summary>Decides when <see cref="Mkor"/> has done its work and the first-order optimizer goes on alone: MKOR-H. The decision is for good.</summary>
/// <remarks>
/// Mozaffari et al. 2023 name a switch by the rate at which the loss falls, but give neither formula nor threshold, and their program has
/// none; this one is ours. It follows a running mean of the loss; its fall over a window, a step, is the window's rate. The
/// reference is the largest rate of the first three windows, at least 0; two windows in a row below theta times the reference switch.
/// Its input is the mean loss over all ranks, so that all ranks decide alike.
/// </remarks>
/// <param name="options">Validated with the rest of the configuration.</param>
public sealed class MkorSwitch(MkorSwitchOptions options)
{
    private const int ReferenceWindows = 3;
    private const int SlowWindows = 2;
    private const string Prefix = "mkor_switch/";

    private double _mean;
    private double _meanBefore;
    private double _reference;
    private long _inWindow;
    private long _windows;
    private long _slow;
    private long _seen;

    /// <summary>Whether the decision is made.</summary>
    public bool IsMade { get; private set; }

    /// <summary>All that it remembers; part of the optimizer's numbers.</summary>
    public IReadOnlyDictionary<string, double> Scalars => new Dictionary<string, double>
    {
        [Prefix + "mean"] = _mean,
        [Prefix + "mean_before"] = _meanBefore,
        [Prefix + "reference"] = _reference,
        [Prefix + "in_window"] = _inWindow,
        [Prefix + "windows"] = _windows,
        [Prefix + "slow"] = _slow,
        [Prefix + "seen"] = _seen,
        [Prefix + "made"] = IsMade ? 1 : 0,
    };

    /// <summary>Sets what <see cref="Scalars"/> returned.</summary>
    /// <exception cref="ArgumentException">One is missing.</exception>
    public void LoadScalars(IReadOnlyDictionary<string, double> scalars)
    {
        double Number(string name) => scalars.TryGetValue(Prefix + name, out var value)
            ? value
            : throw new ArgumentException($"the numbers of MKOR-H lack '{Prefix}{name}'; they are of a run without its switch");
        (_mean, _meanBefore, _reference) = (Number("mean"), Number("mean_before"), Number("reference"));
        (_inWindow, _windows, _slow, _seen) = ((long)Number("in_window"), (long)Number("windows"), (long)Number("slow"), (long)Number("seen"));
        IsMade = Number("made") != 0;
    }

    /// <summary>Takes in the loss of a step.</summary>
    /// <param name="step">Steps done before it.</param>
    /// <param name="loss">Nats per token, mean over the global batch; finite.</param>
    /// <returns>Why to switch, with every number, where this step decides it; else null.</returns>
    public string? Observe(long step, double loss)
    {
        if (IsMade)
        {
            return null;
        }

        _mean = _seen++ == 0 ? loss : (options.Smoothing * _mean) + ((1 - options.Smoothing) * loss);
        if (step < options.WarmupSteps || _seen == 1)
        {
            _meanBefore = _mean;
            return null;
        }

        return ++_inWindow < options.Window ? null : EndWindow(step);
    }

    private string? EndWindow(long step)
    {
        var rate = (_meanBefore - _mean) / options.Window;
        (_meanBefore, _inWindow) = (_mean, 0);
        if (++_windows <= ReferenceWindows)
        {
            _reference = Math.Max(_reference, rate);
            return null;
        }

        _slow = rate < options.Theta * _reference ? _slow + 1 : 0;
        if (_slow < SlowWindows || step + 1 < options.MinStep)
        {
            return null;
        }

        IsMade = true;
        return FormattableString.Invariant(
            $"the loss falls by {rate:E2} a step, below {options.Theta} of {_reference:E2}, for {_slow} windows of {options.Window} steps: on without MKOR's factors");
    }
}
