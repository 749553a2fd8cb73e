// OpenFeature's OFREP provider with what Trialog adds: an evaluation is an exposure, and
// `track` logs what a user did.
import { OFREPProvider } from '@openfeature/ofrep-provider';

const MAX_WAITING = 10_000;

export class TrialogProvider extends OFREPProvider {
  #url;
  #headers;
  #waiting = [];
  #sending = undefined;
  dropped = 0;

  constructor(url, apiKey) {
    const key = apiKey ? [['Authorization', `Bearer ${apiKey}`]] : [];
    // Without this header an evaluation is only a look.
    super({ baseUrl: url, headers: [...key, ['Trialog-Exposure', 'log']] });
    this.#url = `${url}/v1/track`;
    this.#headers = Object.fromEntries([...key, ['Content-Type', 'application/json']]);
  }

  // Never blocks and never fails: the newest event gives way where too many wait.
  track(name, context, details) {
    if (this.#waiting.length >= MAX_WAITING) {
      this.dropped += 1;
      return;
    }
    const timestamp = new Date().toISOString();
    this.#waiting.push({ event_id: crypto.randomUUID(), name, timestamp, context, details });
    this.#sending ??= this.#send().finally(() => { this.#sending = undefined; });
  }

  // Called by OpenFeature.close().
  async onClose() {
    while (this.#sending) await this.#sending;
  }

  async #send() {
    for (let failures = 0; this.#waiting.length > 0;) {
      const events = this.#waiting.slice(0, 500);
      if (await this.#post(events)) {
        this.#waiting.splice(0, events.length);
        failures = 0;
      } else if (++failures > 8) {
        this.dropped += this.#waiting.splice(0).length;
      } else {
        await new Promise((wake) => setTimeout(wake, 100 * 2 ** failures * (0.5 + Math.random() / 2)));
      }
    }
  }

  // Whether the server took them or refused them for good; ids make a repetition harmless.
  async #post(events) {
    try {
      const request = { method: 'POST', headers: this.#headers, body: JSON.stringify({ events }) };
      const answer = await fetch(this.#url, { ...request, signal: AbortSignal.timeout(10_000) });
      await answer.arrayBuffer();
      return answer.status === 202 || answer.status === 422;
    } catch {
      return false;
    }
  }
}
