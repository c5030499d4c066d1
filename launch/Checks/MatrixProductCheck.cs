using System.Diagnostics;
using Moe.Launch.Terminal;
using Moe.Torch;

namespace Moe.Launch.Checks;

/// <summary>How fast a matrix product is: Debian's libtorch takes whatever BLAS there is, and the reference BLAS is 50 times slower than OpenBLAS.</summary>
internal sealed class MatrixProductCheck : Check
{
    private const int Size = 512;
    private const double SlowGigaFlops = 20;

    public override string Name => "matrix product";

    public override TimeSpan Limit => TimeSpan.FromSeconds(30);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        yield return Native.Try("matrix product", Measure);
    }

    private static Finding Measure()
    {
        using var scope = new TensorScope();
        using var noGradient = Autograd.NoGrad();
        var a = Tensor.Ones([Size, Size]);
        var best = TimeSpan.MaxValue;
        for (var i = 0; i < 4; i++)
        {
            var clock = Stopwatch.StartNew();
            a.MatMul(a);
            best = clock.Elapsed < best ? clock.Elapsed : best;
        }

        var speed = 2.0 * Size * Size * Size / best.TotalSeconds / 1e9;
        var text = MetricText.Invariant($"matrix product: {speed:F0} GFLOP/s in float32");
        return speed < SlowGigaFlops
            ? new Finding(Verdict.Warns, text + ", slow: is OpenBLAS installed?", "make setup   (libopenblas0-pthread)")
            : Finding.Works(text);
    }
}
