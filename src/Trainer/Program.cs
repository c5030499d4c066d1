using Moe.Training.Hosting;

return RankHost.Run(args, RankEnvironment.Read(Environment.GetEnvironmentVariable));
