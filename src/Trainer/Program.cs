using Moe.Training.Hosting;

return RankHost.Run(args, Environment.GetEnvironmentVariable);
