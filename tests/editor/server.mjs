// The YAML language server over stdio: just enough of the protocol to be an editor. Nothing waits for a time: each answer is awaited.

import { spawn } from 'node:child_process';

const settings = {
  yaml: { validate: true, hover: true, completion: true, schemaStore: { enable: false }, hoverSchemaSource: false },
};

export const start = async (program, root) => {
  const child = spawn(process.execPath, [program, '--stdio'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const answers = new Map();
  const diagnostics = new Map();
  const isAwaited = new Map();
  let next = 1;
  let open = true;

  const send = (message) => {
    const text = JSON.stringify({ jsonrpc: '2.0', ...message });
    child.stdin.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  };
  const take = (message) => {
    if (message.method === 'textDocument/publishDiagnostics') {
      const { uri, diagnostics: found } = message.params;
      isAwaited.get(uri)?.(found);
      isAwaited.delete(uri);
      diagnostics.set(uri, found);
    } else if (message.method === 'workspace/configuration') {
      send({ id: message.id, result: message.params.items.map(({ section }) => settings[section] ?? {}) });
    } else if (message.method && message.id !== undefined) {
      send({ id: message.id, result: null });
    } else if (message.id !== undefined) {
      const { resolve, reject } = answers.get(message.id);
      answers.delete(message.id);
      message.error ? reject(new Error(message.error.message)) : resolve(message.result);
    }
  };

  let bytes = Buffer.alloc(0);
  child.stdout.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    for (;;) {
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = Number(/content-length: (\d+)/i.exec(bytes.subarray(0, end).toString('latin1'))[1]);
      if (bytes.length < end + 4 + length) return;
      const message = JSON.parse(bytes.subarray(end + 4, end + 4 + length).toString('utf8'));
      bytes = bytes.subarray(end + 4 + length);
      take(message);
    }
  });
  child.on('exit', () => {
    open = false;
    for (const { reject } of answers.values()) reject(new Error('the language server has ended'));
  });

  const ask = (method, params) => new Promise((resolve, reject) => {
    if (!open) return reject(new Error('the language server has ended'));
    const id = next++;
    answers.set(id, { resolve, reject });
    send({ id, method, params });
  });
  const tell = (method, params) => send({ method, params });

  await ask('initialize', {
    processId: process.pid,
    rootUri: root,
    capabilities: {
      workspace: { configuration: true },
      textDocument: {
        completion: { completionItem: { documentationFormat: ['markdown', 'plaintext'], snippetSupport: true } },
        hover: { contentFormat: ['markdown', 'plaintext'] },
      },
    },
  });
  tell('initialized', {});
  tell('workspace/didChangeConfiguration', { settings });

  return {
    // Opens a text as a file; what is wrong with it.
    open: (uri, text) => new Promise((resolve) => {
      isAwaited.set(uri, resolve);
      tell('textDocument/didOpen', { textDocument: { uri, languageId: 'yaml', version: 1, text } });
    }),
    complete: async (uri, position) => {
      const result = await ask('textDocument/completion', { textDocument: { uri }, position });
      return Array.isArray(result) ? result : result.items;
    },
    hover: async (uri, position) => {
      const result = await ask('textDocument/hover', { textDocument: { uri }, position });
      return result?.contents?.value ?? '';
    },
    stop: async () => {
      await ask('shutdown', null);
      tell('exit');
    },
  };
};
