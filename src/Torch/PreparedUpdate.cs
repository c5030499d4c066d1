using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>An update over a list of tensors that lacks only its coefficients: see <see cref="MultiTensor.Prepare"/>.</summary>
public sealed unsafe class PreparedUpdate : IDisposable
{
    private nint _handle;

    internal PreparedUpdate(nint handle) => _handle = handle;

    /// <summary>Steps every element of every tensor.</summary>
    /// <param name="coefficients">A row a tensor: the rule's coefficients.</param>
    /// <exception cref="TorchException">The coefficients don't fit the rule.</exception>
    public void Run(double[,] coefficients)
    {
        Operator.CountCall();
        fixed (double* numbers = coefficients)
        {
            Abi.Check(Abi.OptimizerRun(_handle, numbers, coefficients.Length));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle != 0)
        {
            Abi.Check(Abi.OptimizerRelease(_handle));
            _handle = 0;
        }
    }
}
