// The demo in a real browser: the app behind the gate works as it does without, and nothing that the browser receives names
// the vendor. Usage: BASE_URL=http://127.0.0.1:8080 CANARIES=$'127.0.0.1:9101\nthe-key' node proof.mjs
//
// STUB_WEATHER=1 answers /api/weather here instead, to try the page against the app alone. CHROMIUM is the browser's path.
// Prints one line per check and `N passed, N failed`; exits 1 if one failed, 2 if it could not run.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { check, expect, finish } from '../real/proof.mjs';

const base = (process.env.BASE_URL ?? '').replace(/\/$/, '');
if (!base) {
  console.error('BASE_URL is not set');
  process.exit(2);
}

// What must never be seen: what the caller knows (addresses, the key), and what the demo's vendor leaks.
const canaries = [
  ...(process.env.CANARIES ?? '').split('\n').map((line) => line.trim()).filter(Boolean),
  'vendor.example', 'vendor_track', 'x-internal-node', 'vendor-weather', 'internal_id', 'owner_email', 'pg-3.internal',
];
const foreign = 'https://partner.example/welcome?from=demo';
const patience = 20_000;

// Everything received, as [where, text] pairs.
const received = [];
const pending = [];

// The answers as the browser's network stack saw them: raw heads (cookies too), for every request of a page.
const watch = async (page) => {
  const session = await page.context().newCDPSession(page);
  const urls = new Map();
  await session.send('Network.enable');
  session.on('Network.requestWillBeSent', ({ requestId, request, redirectResponse }) => {
    urls.set(requestId, request.url);
    if (redirectResponse) received.push([`redirect of ${redirectResponse.url}`, JSON.stringify(redirectResponse.headers)]);
  });
  session.on('Network.responseReceivedExtraInfo', ({ requestId, headers, headersText }) => {
    received.push([`raw head of ${urls.get(requestId)}`, `${JSON.stringify(headers)} ${headersText ?? ''}`]);
  });
  session.on('Network.webSocketHandshakeResponseReceived', ({ response }) => {
    received.push(['head of the WebSocket', `${JSON.stringify(response.headers)} ${response.headersText ?? ''}`]);
  });
  session.on('Network.webSocketFrameReceived', ({ response }) => received.push(['WebSocket frame', response.payloadData]));
  page.on('response', (response) => {
    if (!response.url().startsWith(base)) return;
    const where = `${response.status()} ${response.url()}`;
    pending.push(response.headersArray().then((all) => received.push([`head of ${where}`, JSON.stringify(all)])).catch(() => {}));
    const isBodiless = [204, 304].includes(response.status()) || (response.status() >= 300 && response.status() < 400);
    if (!isBodiless) {
      pending.push(response.body().then((body) => received.push([`body of ${where}`, body.toString('latin1')])).catch(() => {}));
    }
  });
  page.on('console', (message) => received.push(['console', message.text()]));
};

const work = mkdtempSync(join(tmpdir(), 'portcullis-browser-'));
let context;
try {
  context = await chromium.launchPersistentContext(join(work, 'profile'), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    recordHar: { path: join(work, 'all.har'), content: 'embed' },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
} catch (error) {
  console.error(`the browser does not start: ${error.message}`);
  rmSync(work, { recursive: true, force: true });
  process.exit(2);
}

context.setDefaultTimeout(patience);
if (process.env.STUB_WEATHER) {
  await context.route(`${base}/api/**`, (route) => {
    const isMissing = !route.request().url().includes('/api/weather');
    if (isMissing) return route.fulfill({ status: 502, contentType: 'application/problem+json', body: '{"title":"stub"}' });
    const body = JSON.stringify({ city: 'Oslo', condition: 'fog', temperature_c: 4.5, station: { name: 'Oslo Observatory' } });
    return route.fulfill({ status: 200, contentType: 'application/json', headers: { 'cache-status': 'stub; hit' }, body });
  });
}
// The foreign site does not exist here: the browser must ask for exactly this address.
let foreignAsked = [];
await context.route((url) => url.hostname === 'partner.example', (route) => {
  foreignAsked.push(route.request().url());
  return route.fulfill({ status: 200, contentType: 'text/html', body: '<title>partner</title>partner site' });
});

const page = context.pages()[0] ?? (await context.newPage());
await watch(page);
const text = (id) => page.locator(`#${id}`).textContent();
const until = async (id, pattern) => {
  await page.waitForFunction(([id, source]) => new RegExp(source).test(document.getElementById(id)?.textContent ?? ''),
    [id, pattern.source]).catch(async () => { throw new Error(`#${id} says: ${await text(id)}`); });
};

await check('the page loads and runs its script', async () => {
  const failures = [];
  page.on('pageerror', (error) => failures.push(error.message));
  const answer = await page.goto(`${base}/`);
  expect(answer.status() === 200, `status ${answer.status()}`);
  expect((await page.title()) === 'Portcullis demo', `title ${await page.title()}`);
  expect(failures.length === 0, failures.join('; '));
});

await check('the weather comes through, shaped', async () => {
  await page.selectOption('#weather select', 'Oslo');
  await page.click('#weather button');
  await until('weather-line', /^Oslo: /);
  const answer = JSON.parse(await text('weather-body'));
  expect(answer.city === 'Oslo' && answer.station?.name, `the public fields are missing in ${JSON.stringify(answer)}`);
  expect(!('internal_id' in answer) && !answer.debug && !answer.station.owner_email, `not shaped: ${JSON.stringify(answer)}`);
});

await check('the second answer is a hit', async () => {
  await page.click('#weather button');
  await until('weather-line', /^Oslo: /);
  await until('weather-headers', /cache-status: .*hit/i);
});

await check('the account needs the login cookie', async () => {
  const answer = await page.goto(`${base}/account`);
  expect(answer.status() === 401, `status ${answer.status()} without a cookie`);
});

await check('a login sets the cookie, and the account opens', async () => {
  await page.goto(`${base}/`);
  await page.fill('#login input', 'Ada <b>');
  await page.click('#login button');
  await page.waitForURL(`${base}/account`);
  expect((await page.textContent('h1')) === 'Signed in as Ada <b>', `the account says: ${await page.textContent('h1')}`);
  const cookies = await context.cookies(base);
  const session = cookies.find(({ name }) => name === 'session');
  expect(session?.httpOnly, `no HttpOnly session cookie in ${JSON.stringify(cookies.map(({ name }) => name))}`);
  expect(cookies.length === 1, `other cookies arrived: ${cookies.map(({ name }) => name)}`);
  const again = await page.goto(`${base}/account`);
  expect(again.status() === 200, `status ${again.status()} when asked again`);
});

await check('a missing page is the app’s own 404', async () => {
  const answer = await page.goto(`${base}/no/such/page`);
  expect(answer.status() === 404, `status ${answer.status()}`);
  expect(await page.locator('#demo-app-note').count() === 1, 'it is not the page of the app');
});

await check('a redirect to a foreign site keeps its address', async () => {
  await page.goto(`${base}/`);
  await page.click('#away');
  await page.waitForURL(foreign);
  expect(foreignAsked.includes(foreign), `asked for: ${foreignAsked}`);
});

await check('an upload arrives whole', async () => {
  await page.goto(`${base}/`);
  const bytes = Buffer.alloc(3 << 20, 0).map((_, at) => (at * 31 + (at >> 8)) & 0xff);
  await page.setInputFiles('#upload input', { name: 'bytes.bin', mimeType: 'application/octet-stream', buffer: bytes });
  await page.click('#upload button');
  await until('upload-line', /bytes arrived unchanged|Refused|not what|ended/);
  expect((await text('upload-line')) === `All ${bytes.length} bytes arrived unchanged.`, await text('upload-line'));
});

await check('a WebSocket echoes, twice on one connection', async () => {
  await page.fill('#socket input', 'first');
  await page.click('#socket button');
  await until('socket-line', /^Echo: first$/);
  const long = 'x'.repeat(200);
  await page.fill('#socket input', long);
  await page.click('#socket button');
  await until('socket-line', new RegExp(`^Echo: ${long}$`));
});

// Ways in which a vendor shows itself. Each answer is read in the page, so that it is what a script could see.
for (const path of ['/api/redirect', '/api/redirect?to=elsewhere', '/api/links', '/api/fail?status=503', '/api/fail?status=404',
  '/api/quota', '/api/no/such', '/api/echo']) {
  await check(`${path} is answered`, async () => {
    const [status, url] = await page.evaluate(async (path) => {
      const response = await fetch(path);
      await response.text();
      return [response.status, response.url];
    }, path);
    expect(status >= 200 && status < 600, `status ${status}`);
    expect(url.startsWith(base), `ended at ${url}`);
  });
}

await check('what scripts can keep holds nothing of the vendor', async () => {
  const kept = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }]));
  received.push(['storage', kept], ['the page as it stands', await page.content()]);
  received.push(['cookies', JSON.stringify(await context.cookies())]);
});

await Promise.allSettled(pending);
await context.close();
received.push(['HAR', readFileSync(join(work, 'all.har'), 'utf8')]);
rmSync(work, { recursive: true, force: true });

await check(`nothing received names the vendor (${received.length} heads, bodies and frames)`, async () => {
  const found = [];
  for (const canary of canaries) {
    const needle = canary.toLowerCase();
    const base64 = Buffer.from(canary).toString('base64').replace(/=+$/, '').slice(0, -1);
    for (const [where, text] of received) {
      if (text.toLowerCase().includes(needle) || text.includes(base64)) found.push(`${canary} in the ${where}`);
    }
  }
  expect(received.length > 20, `only ${received.length} things were seen: the watching is broken`);
  expect(found.length === 0, found.join('\n'));
});

process.exit(finish('in the browser') ? 0 : 1);
