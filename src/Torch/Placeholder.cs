namespace Moe.Torch;
