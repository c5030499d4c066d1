namespace Moe.Optimizers;
