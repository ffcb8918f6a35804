// The public suite for HTTP caches (npm `http-cache-tests`), run through a gateway of ours and graded by its own rules.
// Usage: BINARY=the-program WORK=a-folder node proof.mjs [ID]
//
// Without an ID: prints every case that did not pass with its reason, what of the observed behaviours concerns stale answers, and
// `N of M` for what the RFCs require and for what an optimal cache does; exits 1 below the thresholds. With the ID of one case: prints
// what went over both wires and its result. Exits 2 where it could not run.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import fetch from 'node-fetch';
import { determineTestResult } from 'http-cache-tests/lib/display.mjs';
import { getResults, runTests } from 'http-cache-tests/client/runner.mjs';
import suites from 'http-cache-tests/tests/index.mjs';

// What must be reached: all caches that the suite's site compares reach 155 and 88 between them.
const REQUIRED = 156;
const OPTIONAL = 77;
// Observed, not graded by the suite: an old answer stands in for an origin that is gone, and for one that says it is not well.
const STALE = ['stale-close', 'stale-503', 'stale-sie-close', 'stale-sie-503'];

const { BINARY: binary, WORK: work } = process.env;
if (!binary || !work) {
  console.error('BINARY and WORK are not set');
  process.exit(2);
}
const only = process.argv[2];
const children = [];
process.on('exit', () => children.forEach((child) => child.kill()));

// Starts a program and waits for a line that says where it listens.
const start = (program, options, line) => new Promise((resolve, reject) => {
  const child = spawn(program[0], program.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  children.push(child);
  let said = '';
  const hear = (chunk) => {
    said += chunk;
    const found = line.exec(said);
    if (found) resolve(found[1]);
    if (only && program[0] === process.execPath) process.stdout.write(chunk);
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  child.on('error', reject);
  child.on('exit', () => reject(new Error(`${program[0]} ended:\n${said}`)));
});

// The suite's origin reads its settings from where npm would put them; port 0 is one of the kernel's choice.
const server = join(dirname(createRequire(import.meta.url).resolve('http-cache-tests/package.json')), 'server/server.mjs');
const settings = { npm_config_protocol: 'http', npm_config_port: '0', npm_config_pidfile: join(work, 'origin.pid') };
const config = (originPort) => `version: 1
listeners: [{ name: public, address: "127.0.0.1:0" }]
accessLog: off
upstreams:
  # Retries would be seen by the origin and spoil a case; the origin closes what is idle for 5 s.
  origin: { kind: app, url: "http://127.0.0.1:${originPort}", retry: { on: [] }, timeouts: { idle: 3s } }
routes:
  - name: all
    match: { path: { prefix: / } }
    upstream: origin
    # All that the RFCs leave to a cache's choice, on.
    cache: { heuristic: 24h, requestDirectives: honor, setCookie: store, ranges: combine, staleIfError: 1h }
`;

const base = await start([process.execPath, server], { cwd: work, env: { ...process.env, ...settings } }, /Listening on \S+:(\d+)\//)
  .then((port) => {
    writeFileSync(join(work, 'portcullis.yaml'), config(port));
    return start([binary, 'run', '--config', join(work, 'portcullis.yaml')], {}, /^listening public (\S+)[^]*^ready /m);
  })
  .then((address) => `http://${address}`)
  .catch((error) => {
    console.error(error.message);
    process.exit(2);
  });

// The last release is older than RFC 9111. Where it asks for what the RFC forbids, and its repository has since turned round, the RFC counts.
// §5.1: of several `Age` the first counts, and one that is no number is ignored.
const AGE_TO_IGNORE = ['nonnumeric', 'negative', 'float', 'prefix-twoline', 'dup-0', 'dup-0-twoline', 'dup-old', 'parameter', 'numeric-parameter'];
// §4.2.4: where a stale answer is forbidden and the origin gone, there is an error (502, as without a cache); the release asks for a 200.
const NEVER_STALE = ['must-revalidate', 'proxy-revalidate', 'no-cache', 's-maxage=2'];
const correct = (test) => {
  if (AGE_TO_IGNORE.some((name) => test.id === `age-parse-${name}`)) test.requests[1].expected_type = 'cached';
  if (NEVER_STALE.some((name) => test.id === `stale-close-${name}`)) {
    test.requests[1] = { disconnect: true, expected_status: 502, check_body: false, expected_response_headers_missing: ['server-request-count'] };
  }
};
suites.forEach(({ tests }) => tests.forEach(correct));

const cases = suites.flatMap(({ tests }) => tests).filter((test) => !test.browser_only && (!only || test.id === only));
if (cases.length === 0) {
  console.error(`no case is called ${only}`);
  process.exit(2);
}
if (only) cases[0].dump = true;
// One connection a request: a case is about the cache, not about when a connection ends.
const agent = new Agent({ keepAlive: false });
await runTests([{ tests: cases }], (url, init) => fetch(url, { ...init, agent }), false, base);

const results = getResults();
// The suite's own words for a result end in a mark; which of them says that a case passed, and that it depends on one that did not.
const mark = (test) => determineTestResult(suites, test.id, results, !only)[2];
const hasPassed = (test) => ['✅', 'Y'].includes(mark(test));
const reason = (test) => {
  const said = results[test.id] === true ? 'itself it passes' : results[test.id]?.join(': ');
  return mark(test) === '⚪️' ? `depends on ${test.depends_on.join(', ')}; ${said}` : said;
};

if (only) {
  console.log(`${mark(cases[0])} ${only}: ${results[only] === true ? 'passed' : reason(cases[0])}`);
  process.exit(hasPassed(cases[0]) ? 0 : 1);
}
const graded = (kind) => cases.filter((test) => (test.kind ?? 'required') === kind);
const reached = (kind, word) => {
  const all = graded(kind);
  for (const test of all.filter((one) => !hasPassed(one))) console.log(`${word}: ${test.id}: ${reason(test)}`);
  return all.filter(hasPassed).length;
};
const required = reached('required', 'FAIL');
const optional = reached('optimal', 'less');
for (const test of graded('check')) {
  if (STALE.includes(test.id)) console.log(`stale: ${test.id}: ${hasPassed(test) ? 'yes' : `no: ${reason(test)}`}`);
}
console.log(`caching: required ${required} of ${graded('required').length}, optional ${optional} of ${graded('optimal').length}`);
process.exit(required >= REQUIRED && optional >= OPTIONAL ? 0 : 1);
