namespace Moe.Models;
