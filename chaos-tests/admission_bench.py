#!/usr/bin/env python3
"""What a policy of 1,000 rules costs beside an empty one, and reviews during an election.

Three nodes on loopback, HTTPS with keep-alive and only the caBundle, Pod reviews of 5 KB. The policies take turns
within one run; then four callers offer 20,000 reviews, 2,000 a second if the nodes keep up, while the leader is killed.
Takes the path of the program `trow`; ports 9701 to 9733 on loopback. docs/benchmarks.md says how it is used.
"""
import json, multiprocessing as mp, os, shutil, signal, socket, ssl, subprocess, sys, tempfile, time

TROW = sys.argv[1]
D = tempfile.mkdtemp()
HERE = os.path.dirname(os.path.abspath(__file__))
WORKERS, ROUNDS, SECONDS = 4, 5, 3
RATE = 2000

def review(image):
    r = json.load(open(HERE + '/../api/tests/http/reviews/pod-create.json'))
    pod = r['request']['object']
    pod['spec']['containers'][0]['image'] = image
    pod['metadata']['annotations']['example.com/filler'] = ''
    pod['metadata']['annotations']['example.com/filler'] = 'x' * max(0, 5120 - len(json.dumps(r)))
    body = json.dumps(r).encode()
    head = f'POST /validate-image?timeout=10s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n'
    return head.encode() + body

class Connection:
    def __init__(self, port, ca):
        context = ssl.create_default_context(cadata=ca)
        raw = socket.create_connection(('127.0.0.1', port), 5)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s = context.wrap_socket(raw, server_hostname='localhost')
        self.s.settimeout(10)
    def ask(self, request):
        self.s.sendall(request)
        data = b''
        while b'\r\n\r\n' not in data: data += self.more()
        head, body = data.split(b'\r\n\r\n', 1)
        length = next(int(l.split(b':')[1]) for l in head.split(b'\r\n') if l.lower().startswith(b'content-length:'))
        while len(body) < length: body += self.more()
        assert head.startswith(b'HTTP/1.1 200'), head
        return b'"allowed":true' in body
    def more(self):
        got = self.s.recv(65536)
        if not got: raise ConnectionError('closed')
        return got

def closed_loop(port, ca, until, out):
    request, n = review('docker.io/library/app:1'), 0
    c = Connection(port, ca)
    while time.time() < until:
        assert c.ask(request)
        n += 1
    out.put(n)

def offered(ports, at, ca, begin, seconds, per_second, out):
    """Reviews at fixed times, by turns to be allowed and denied; on a failure goes to the next node. Each takes from when
    it was due, so that one which waits for those before it is not taken for a fast one."""
    good, bad = review('docker.io/library/app:1'), review('docker.io/library/bad:1')
    count = wrong = lost = 0
    took, c = [], None
    for i in range(int(seconds * per_second)):
        due = begin + i / per_second
        if (pause := due - time.time()) > 0: time.sleep(pause)
        for attempt in range(30):
            try:
                c = c or Connection(ports[at % len(ports)], ca)
                allowed = c.ask(good if i % 2 == 0 else bad)
                wrong += allowed != (i % 2 == 0)
                count += 1
                took.append(time.time() - due)
                break
            except (OSError, ConnectionError):
                lost += c is not None
                c, at = None, at + 1
        else: raise SystemExit('nobody answers')
    out.put((count, wrong, lost, took, time.time()))

def cpu(pids):
    total = 0
    for pid in pids:
        fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf('SC_CLK_TCK')

def trow(*arguments):
    env = {**os.environ, 'TROW_TOKEN_FILE': D + '/dev/cluster/admin.token', 'TROW_SERVER': 'http://127.0.0.1:9710'}
    return subprocess.run([TROW, *arguments], env=env, check=True, capture_output=True, text=True).stdout

def set_policy(text):
    open(D + '/policy.yaml', 'w').write(text)
    trow('policy', 'set', D + '/policy.yaml')

EMPTY = 'version: 1\ndefault: allow\n'
RULES = EMPTY + 'allow:\n' + ''.join(f'  - image: ghcr.io/team-{i}/**\n' for i in range(400)) \
    + ''.join(f'  - image: docker.io/library/app-{i}-*\n' for i in range(300)) \
    + '  - image: docker.io/library/app\n' + 'deny:\n' + '  - image: docker.io/library/bad\n' \
    + ''.join(f'  - image: docker.io/**/old-{i}\n' for i in range(298))
assert RULES.count('- image:') == 1000

dev = subprocess.Popen([TROW, 'dev', '--data-dir', D + '/dev', '--base-port', '9710', '--output', 'json'],
                       stdout=subprocess.PIPE, stderr=open(D + '/dev.log', 'w'), text=True)
try:
    nodes = json.loads(dev.stdout.readline())['nodes']
    pids = [n['pid'] for n in nodes]
    ports = [int(n['webhook'].rsplit(':', 1)[1]) for n in nodes]
    trow('cluster', 'wait', '--for', 'healthy', '--timeout', '60s')
    ca = trow('webhook', 'ca')
    figures = {}
    for turn in range(ROUNDS):
        order = [('empty', EMPTY), ('1,000 rules', RULES)]
        for name, policy in order if turn % 2 == 0 else order[::-1]:
            set_policy(policy)
            out, until = mp.Queue(), time.time() + SECONDS
            before = cpu(pids)
            workers = [mp.Process(target=closed_loop, args=(ports[i % 3], ca, until, out)) for i in range(WORKERS)]
            for w in workers: w.start()
            n = sum(out.get(timeout=60) for _ in workers)
            for w in workers: w.join()
            figures.setdefault(name, []).append((n / SECONDS, (cpu(pids) - before) / n * 1e6))
    median = lambda values: sorted(values)[len(values) // 2]
    for name, rounds in figures.items():
        print(f'{name}: {median([r for r, _ in rounds]):.0f} reviews/s, {median([c for _, c in rounds]):.0f} us of the nodes\' CPU each')
    for what, at in (('reviews/s', 0), ('CPU', 1)):
        e, r = (median([round[at] for round in figures[name]]) for name in ('empty', '1,000 rules'))
        print(f'1,000 rules cost {(e / r if at == 0 else r / e):.2f} times an empty policy, by {what}')

    out, begin = mp.Queue(), time.time() + 1
    workers = [mp.Process(target=offered, args=(ports, i, ca, begin, 10, RATE / WORKERS, out)) for i in range(WORKERS)]
    for w in workers: w.start()
    time.sleep(4)
    status = json.loads(trow('cluster', 'status', '--output', 'json'))
    leader = next(n for n in nodes if n['name'] == status['leader'])
    os.kill(leader['pid'], signal.SIGKILL)
    results = [out.get(timeout=120) for _ in workers]
    for w in workers: w.join()
    took = sorted(t for r in results for t in r[3])
    # From when the first was due, which is later than when the callers were started.
    answered, lasted = sum(r[0] for r in results), max(r[4] for r in results) - begin
    print(f'election: {answered} of {10 * RATE} reviews answered in {lasted:.1f} s, {answered / lasted:.0f} a second, '
          f'{sum(r[1] for r in results)} wrong, '
          f'{sum(r[2] for r in results)} lost with the leader; from when each was due p50 {took[len(took) // 2] * 1e3:.1f} ms, '
          f'p99 {took[len(took) * 99 // 100] * 1e3:.1f} ms, max {took[-1] * 1e3:.0f} ms')
finally:
    dev.send_signal(signal.SIGINT)
    try: dev.wait(40)
    except subprocess.TimeoutExpired: dev.kill()
    shutil.rmtree(D, ignore_errors=True)
