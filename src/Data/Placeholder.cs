namespace Moe.Data;
