// The same with OpenFeature's web SDK and the OFREP web provider, whose context stays:
// {"url", "headers", "context", "next", "asked": [[kind, key, default]]}. The context
// changes to `next` in between. Counts what the provider sends and gets.
import { OpenFeature } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { text } from 'node:stream/consumers';

const { url, headers, context, next, asked } = JSON.parse(await text(process.stdin));
const statuses = [];
const fetchImplementation = async (request, options) => {
  const answer = await fetch(request, options);
  statuses.push(answer.status);
  return answer;
};
const of = { boolean: 'getBooleanDetails', string: 'getStringDetails', number: 'getNumberDetails', object: 'getObjectDetails' };
try {
  await OpenFeature.setContext(context);
  await OpenFeature.setProviderAndWait(
    new OFREPWebProvider({ baseUrl: url, headers, pollInterval: 0, fetchImplementation, cacheMode: 'disabled' }),
  );
  const client = OpenFeature.getClient();
  const evaluate = () => asked.map(([kind, key, fallback]) => client[of[kind]](key, fallback));
  const first = evaluate();
  await OpenFeature.setContext({ ...context });
  const same = evaluate();
  await OpenFeature.setContext(next);
  console.log(JSON.stringify({ first, same, next: evaluate(), statuses }));
} catch (error) {
  console.log(JSON.stringify({ error: String(error), statuses }));
}
process.exit(0);
