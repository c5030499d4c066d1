"""What a user would pick instead, on this machine's CPU: a lean torch.distributed (gloo) expert-parallel MoE LM, 4 ranks, float32.
Same shape as the project's quickstart. Run with Debian's /usr/bin/python3 (torch 1.13). usage: cpu_ep.py [world] [steps] [key=value ...]
Prints tokens/s over all ranks (median step), loss, and the share of time in all-to-all."""
import os, sys, time, math, torch, torch.nn as nn, torch.nn.functional as F, torch.distributed as dist, torch.multiprocessing as mp
W=int(sys.argv[1]) if len(sys.argv)>1 else 4; N=int(sys.argv[2]) if len(sys.argv)>2 else 30
C=dict(V=256,D=128,L=4,H=4,E=16,K=2,FF=256,S=128,MB=8); C.update({k:int(v) for k,v in (a.split("=") for a in sys.argv[3:])})
V,D,L,H,E,K,FF,S,MB=[C[k] for k in "V D L H E K FF S MB".split()]
comm=[0.0]
class A2A(torch.autograd.Function):
    @staticmethod
    def forward(ctx,x,inp,out):
        ctx.s=(inp,out); y=x.new_empty(sum(out),*x.shape[1:]); t=time.time(); dist.all_to_all_single(y,x.contiguous(),out,inp); comm[0]+=time.time()-t; return y
    @staticmethod
    def backward(ctx,g):
        inp,out=ctx.s; y=g.new_empty(sum(inp),*g.shape[1:]); t=time.time(); dist.all_to_all_single(y,g.contiguous(),inp,out); comm[0]+=time.time()-t; return y,None,None
def all_to_all_gloo(o,i,os_,is_):  # gloo has no all_to_all in 1.13's python for CPU: pairwise send/recv
    r=dist.get_rank(); outs=list(o.split(os_)); ins=list(i.split(is_)); outs[r].copy_(ins[r]); ops=[]
    for p in range(W):
        if p!=r:
            if is_[p]: ops.append(dist.P2POp(dist.isend,ins[p].contiguous(),p))
            if os_[p]: ops.append(dist.P2POp(dist.irecv,outs[p],p))
    if ops:
        for w in dist.batch_isend_irecv(ops): w.wait()
class RMS(nn.Module):
    def __init__(s,d): super().__init__(); s.w=nn.Parameter(torch.ones(d))
    def forward(s,x): return x*torch.rsqrt(x.pow(2).mean(-1,keepdim=True)+1e-5)*s.w
class Block(nn.Module):
    def __init__(s):
        super().__init__(); i=lambda *sh: nn.Parameter(torch.randn(*sh)*0.02); El=E//W
        s.n1,s.n2=RMS(D),RMS(D); s.qkv=i(3*D,D); s.o=i(D,D); s.r=i(E,D); s.w13=i(El,2*FF,D); s.w2=i(El,D,FF); s.w13.expert=s.w2.expert=True
    def forward(s,x,cos,sin):
        B,T,_=x.shape; h=s.n1(x); q,k,v=F.linear(h,s.qkv).view(B,T,3,H,D//H).unbind(2)
        def rot(t): a,b=t.chunk(2,-1); return torch.cat((a*cos-b*sin,b*cos+a*sin),-1)
        q,k,v=[t.transpose(1,2) for t in (rot(q),rot(k),v)]
        a=(q@k.transpose(-1,-2))/math.sqrt(D//H); a=a.masked_fill(s.mask[:T,:T],float("-inf")).softmax(-1)@v
        x=x+F.linear(a.transpose(1,2).reshape(B,T,D),s.o); h=s.n2(x).view(-1,D)
        p=F.linear(h,s.r).softmax(-1); w,idx=p.topk(K,-1); w=w/w.sum(-1,keepdim=True); flat=idx.view(-1)
        cnt=torch.bincount(flat,minlength=E); f=cnt.clone(); 
        if W>1: dist.all_reduce(f)
        lb=E*((f/f.sum())*p.mean(0)).sum()
        order=flat.argsort(); El=E//W; xs=h[order//K]
        if W>1:
            oc=torch.empty_like(cnt); t=time.time(); dist.all_to_all_single(oc,cnt) ; comm[0]+=time.time()-t
            inp=cnt.view(W,El).sum(1).tolist(); out=oc.view(W,El).sum(1).tolist(); xr=A2A.apply(xs,inp,out)
            eid=torch.arange(El).repeat(W).repeat_interleave(oc); o2=eid.argsort(); xr2=xr[o2]; per=oc.view(W,El).sum(0).tolist()
        else: xr2=xs; per=cnt.tolist()
        ys=[]
        for e,c in enumerate(xr2.split(per)):
            a,b=F.linear(c,s.w13[e]).chunk(2,-1); ys.append(F.linear(F.silu(a)*b,s.w2[e]))
        y=torch.cat(ys)
        if W>1: y=A2A.apply(torch.empty_like(y).index_copy(0,o2,y),out,inp)
        y=y*w.view(-1)[order].unsqueeze(-1)
        return x+torch.zeros_like(h).index_add(0,order//K,y).view(B,T,D), lb
def main(rank,port):
    torch.set_num_threads(1); torch.manual_seed(0)
    if W>1:
        os.environ.update(MASTER_ADDR="127.0.0.1",MASTER_PORT=str(port)); dist.init_process_group("gloo",rank=rank,world_size=W)
    e=nn.Parameter(torch.randn(V,D)*0.02); hd=nn.Parameter(torch.randn(V,D)*0.02); bl=nn.ModuleList(Block() for _ in range(L)); nf=RMS(D)
    m=torch.triu(torch.ones(S,S,dtype=torch.bool),1)
    for b in bl: b.mask=m
    f=1e4**(-torch.arange(0,D//H,2,dtype=torch.float32)/(D//H)); t=torch.arange(S)[:,None]*f; cos,sin=t.cos()[None,:,None],t.sin()[None,:,None]
    ps=[e,hd,*bl.parameters(),*nf.parameters()]; opt=torch.optim.AdamW(ps,lr=1e-3,foreach=True)
    data=torch.frombuffer(bytearray(open(os.environ.get("TEXT",os.path.join(os.path.dirname(os.path.abspath(__file__)),"..","..","..","data","shakespeare.txt")),"rb").read()),dtype=torch.uint8).long()
    g=torch.Generator().manual_seed(rank); ts=[]; cs=[]
    for it in range(N):
        o=torch.randint(0,len(data)-S-1,(MB,),generator=g); b=torch.stack([data[j:j+S+1] for j in o])
        comm[0]=0; t0=time.time(); x=e[b[:,:-1]]; aux=0
        for k in bl: x,l=k(x,cos,sin); aux=aux+l
        loss=F.cross_entropy(F.linear(nf(x),hd).view(-1,V),b[:,1:].reshape(-1)); (loss+0.01*aux/L).backward()
        if W>1:
            dn=[p for p in ps if not getattr(p,"expert",False)]; fl=torch.cat([p.grad.view(-1) for p in dn]); dist.all_reduce(fl); fl/=W; i=0
            for p in dn: p.grad.copy_(fl[i:i+p.numel()].view_as(p)); i+=p.numel()
            for p in ps:
                if getattr(p,"expert",False): p.grad/=W
        opt.step(); opt.zero_grad(); ts.append(time.time()-t0); cs.append(comm[0])
    if rank==0:
        k=sorted(ts[3:]); md=k[len(k)//2]; print(f"peer torch {torch.__version__} gloo world={W} {C}: {W*MB*S/md:.0f} tokens/s  {md*1e3:.1f} ms/step  comm {sorted(cs[3:])[len(cs[3:])//2]/md:.0%}  loss {loss.item():.4f}")
if __name__=="__main__":
    port=29500+os.getpid()%500
    if W==1: main(0,port)
    else: mp.spawn(main,(port,),W)
