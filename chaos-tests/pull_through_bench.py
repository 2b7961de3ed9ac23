#!/usr/bin/env python3
"""First and warm pulls of an image, direct, through three nodes of Trow, and through docker-registry as a proxy.

The ways take turns within one run; docs/benchmarks.md says how it is used. Takes the path of the program `trow`
and docker-registry (Debian) in PATH; ports 9601 to 9633 on loopback.
"""
import hashlib, http.client, json, os, shutil, socket, subprocess, sys, tempfile, time

TROW=sys.argv[1]; D=tempfile.mkdtemp()
procs=[]
def start(cmd,log,env=None):
    p=subprocess.Popen(cmd,stdout=open(log,'w'),stderr=subprocess.STDOUT,env={**os.environ,**(env or {})},cwd=D); procs.append(p); return p
def wait(port):
    for _ in range(200):
        try: socket.create_connection(('127.0.0.1',port),1).close(); return
        except OSError: time.sleep(.1)
    raise SystemExit(f'no {port}')
def req(port,method,path,body=None,h={}):
    c=http.client.HTTPConnection('127.0.0.1',port,timeout=60); t=time.perf_counter(); c.request(method,path,body,h); r=c.getresponse()
    first=r.read(1) if method=='GET' else b''; ttfb=time.perf_counter()-t; data=hashlib.sha256(first); n=len(first)
    while True:
        b=r.read(1<<20)
        if not b: break
        data.update(b); n+=len(b)
    total=time.perf_counter()-t; c.close(); return r,ttfb,total,n,data.hexdigest()
open(D+'/up.yml','w').write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {D}/up}}}}\nhttp: {{addr: '127.0.0.1:9601'}}\n")
open(D+'/proxy.yml','w').write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {D}/proxy}}}}\nhttp: {{addr: '127.0.0.1:9602'}}\nproxy: {{remoteurl: 'http://127.0.0.1:9601'}}\n")
open(D+'/trow.toml','w').write('[cache]\nhigh = "100%"\nlow = "99%"\n[upstream."docker.io"]\nendpoint = "http://127.0.0.1:9601"\ninsecure = true\nallow_private = true\n')
try:
    start(['docker-registry','serve',D+'/up.yml'],D+'/up.log'); start(['docker-registry','serve',D+'/proxy.yml'],D+'/proxy.log')
    start([TROW,'dev','--data-dir',D+'/dev','--base-port','9610','--config',D+'/trow.toml','--output','json'],D+'/dev.json')
    time.sleep(2)
    wait(9601); wait(9602); wait(9610); wait(9620); wait(9630); time.sleep(3)
    nodes=json.loads(open(D+'/dev.json').read().splitlines()[0])['nodes']
    def push(repo,data):
        d='sha256:'+hashlib.sha256(data).hexdigest()
        r,*_=req(9601,'POST',f'/v2/{repo}/blobs/uploads/'); loc=r.getheader('location').split('127.0.0.1:9601')[-1]
        r,*_=req(9601,'PUT',loc+('&' if '?' in loc else '?')+'digest='+d,data,{'Content-Type':'application/octet-stream'}); assert r.status==201,r.status
        return d
    def image(repo,sizes):
        cfg=json.dumps({'os':'linux','architecture':'amd64','x':os.urandom(8).hex()}).encode(); c=push(repo,cfg)
        ls=[(push(repo,os.urandom(n)),n) for n in sizes]
        m=json.dumps({'schemaVersion':2,'mediaType':'application/vnd.oci.image.manifest.v1+json','config':{'mediaType':'application/vnd.oci.image.config.v1+json','digest':c,'size':len(cfg)},'layers':[{'mediaType':'application/vnd.oci.image.layer.v1.tar','digest':d,'size':n} for d,n in ls]}).encode()
        r,*_=req(9601,'PUT',f'/v2/{repo}/manifests/1',m,{'Content-Type':'application/vnd.oci.image.manifest.v1+json'}); assert r.status==201
        return [c]+[d for d,_ in ls]
    def pull(port,repo,blobs,ns=''):
        t=time.perf_counter(); r,f,_,_,h=req(port,'GET',f'/v2/{repo}/manifests/1{ns}',None,{'Accept':'application/vnd.oci.image.manifest.v1+json'}); assert r.status==200,r.status
        ttfb=None
        for b in blobs:
            r,f,_,_,h=req(port,'GET',f'/v2/{repo}/blobs/{b}{ns}'); assert r.status==200 and 'sha256:'+h==b,(r.status,b)
            ttfb=f
        return time.perf_counter()-t,ttfb
    med=lambda x: sorted(x)[len(x)//2]
    out={}
    for i in range(7):
        repo=f'library/app{i}'; blobs=image(repo,[1<<20,8<<20,64<<20])
        ways=[('direct',9601,''),('trow cold',9610+10*(i%3),'?ns=docker.io'),('proxy cold',9602,'')]
        ways=ways[i%3:]+ways[:i%3]
        for name,port,ns in ways: out.setdefault(name,[]).append(pull(port,repo,blobs,ns))
        time.sleep(1)
        for name,port,ns in [('trow warm, a node',9610+10*((i+1)%3),'?ns=docker.io'),('proxy warm',9602,''),('trow warm, same node',9610+10*(i%3),'?ns=docker.io')]: out.setdefault(name,[]).append(pull(port,repo,blobs,ns))
    d=(med([a for a,_ in out['direct']]),med([b for _,b in out['direct']]))
    for k,v in out.items():
        a,b=med([x for x,_ in v]),med([x for _,x in v]); print(f'{k:22} total {a*1000:7.1f} ms ({a/d[0]:.2f}x direct), first byte of the 64 MiB layer {b*1000:6.1f} ms ({b/d[1]:.2f}x)')
    for n in nodes:
        for l in open(f"/proc/{n['pid']}/status"):
            if l.startswith(('VmHWM','VmRSS')): print(n['name'],l.strip())
finally:
    for p in procs: p.terminate()
    for p in procs:
        try: p.wait(20)
        except Exception: p.kill()
    shutil.rmtree(D,ignore_errors=True)
