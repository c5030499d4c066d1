using Moe.Torch;
using Moe.Torch.Native;

namespace Moe.Launch.Checks;

/// <summary>Whether our native library is there and finds libtorch.</summary>
internal sealed class LibraryCheck : Check
{
    public override string Name => "libtorch";

    public override TimeSpan Limit => TimeSpan.FromSeconds(30);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        if (NativeFolder.Find("moe_torch") is not { } path)
        {
            yield return new Finding(Verdict.Fails, "libtorch: the native library libmoe_torch.so has not been built", "make setup");
            yield break;
        }

        yield return Native.Try("libtorch", () => Finding.Works($"libtorch {TorchRuntime.Version} through {path}"));
    }
}
