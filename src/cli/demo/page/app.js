// The demo page. It only ever speaks to its own origin.
'use strict';

const at = (id) => document.getElementById(id);

const show = (id, text) => { at(id).textContent = text; };

// FNV-1a over 64 bits, as the app computes it for an upload.
const fingerprint = (bytes) => {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, '0');
};

at('weather').addEventListener('submit', async (event) => {
  event.preventDefault();
  const city = new FormData(event.target).get('city');
  show('weather-line', 'Asking …');
  try {
    const response = await fetch('/api/weather?city=' + encodeURIComponent(city));
    const text = await response.text();
    let line = `The gate answered ${response.status}.`;
    let body = text;
    try {
      const value = JSON.parse(text);
      body = JSON.stringify(value, null, 2);
      if (response.ok) line = `${value.city}: ${value.condition}, ${value.temperature_c} °C.`;
      else if (value.title) line = `${response.status}: ${value.title}`;
    } catch { /* not JSON: shown as it is */ }
    show('weather-body', body);
    show('weather-headers', [...response.headers].map(([name, value]) => `${name}: ${value}`).join('\n'));
    show('weather-line', line);
  } catch {
    show('weather-line', 'No answer: is the gate running?');
  }
});

at('upload').addEventListener('submit', async (event) => {
  event.preventDefault();
  const file = new FormData(event.target).get('file');
  show('upload-line', 'Sending …');
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const headers = { 'content-type': 'application/octet-stream' };
    const response = await fetch('/upload', { method: 'POST', headers, body: bytes });
    if (!response.ok) {
      show('upload-line', `Refused with ${response.status}.`);
      return;
    }
    const got = await response.json();
    const isWhole = got.bytes === bytes.length && got.fnv1a === fingerprint(bytes);
    show('upload-line', isWhole ? `All ${got.bytes} bytes arrived unchanged.` : 'What arrived is not what was sent.');
  } catch {
    show('upload-line', 'The connection ended before the answer.');
  }
});

let socket;
at('socket').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = new FormData(event.target).get('text');
  if (socket && socket.readyState === WebSocket.OPEN) {
    socket.send(text);
    return;
  }
  show('socket-line', 'Connecting …');
  socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/ws');
  socket.addEventListener('open', () => socket.send(text));
  socket.addEventListener('message', (message) => show('socket-line', `Echo: ${message.data}`));
  socket.addEventListener('close', (end) => show('socket-line', `Closed (${end.code}).`));
});
