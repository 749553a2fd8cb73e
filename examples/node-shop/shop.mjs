// A web shop that tests the text of its buy button, in Node through OpenFeature.
//
//   npm install && node shop.mjs --server http://127.0.0.1:8080
//
// GET /?user=42 shows the page with the button of the user's variant; POST /buy?user=42
// logs a purchase. The experiment is `buy-button`, as in the Rust example.
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { OpenFeature } from '@openfeature/server-sdk';
import { TrialogProvider } from './trialog-provider.mjs';

const { values: options } = parseArgs({
  options: {
    server: { type: 'string', default: 'http://127.0.0.1:8080' },
    'api-key': { type: 'string' },
    port: { type: 'string', default: '3001' },
  },
});

await OpenFeature.setProviderAndWait(new TrialogProvider(options.server, options['api-key']));
const features = OpenFeature.getClient();

const BUTTONS = { plain: 'Buy', bold: '<b>Buy it now</b>' };

const shop = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://shop');
  const user = url.searchParams.get('user');
  if (!user) return response.writeHead(400).end('who are you? add ?user=ID\n');
  const context = { targetingKey: user };
  if (request.method === 'POST' && url.pathname === '/buy') {
    features.track('purchase', context, { value: 19.99 });
    return response.writeHead(204).end();
  }
  const variant = await features.getStringValue('buy-button', 'plain', context);
  const page = `<button data-variant="${variant}">${BUTTONS[variant] ?? BUTTONS.plain}</button>`;
  return response.writeHead(200, { 'Content-Type': 'text/html' }).end(page);
});

shop.listen(Number(options.port), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${shop.address().port}`);
});

process.on('SIGINT', () => {
  shop.close(async () => {
    await OpenFeature.close();
    process.exit(0);
  });
  shop.closeIdleConnections();
});
