// What the server said of every box, merged, and its clock. No DOM, no socket.

export class Boxes {
  constructor() {
    this.rows = new Map(); // gateway id -> row as docs/live.md says
    this.revision = 0; // grows with every row that came
    this.hello = null;
    this.serverOffsetUs = null; // server time minus this page's monotonic clock
  }

  /** Server time now, µs; before the first tick this screen's own clock has to do. */
  serverUs(nowMs) {
    return this.serverOffsetUs === null ? Date.now() * 1000 : nowMs * 1000 + this.serverOffsetUs;
  }

  apply(message, nowMs) {
    switch (message.type) {
      case "hello":
        this.hello = message;
        // The list that follows is whole: what it no longer names is no longer there.
        this.rows.clear();
        this.revision += 1;
        this.#setClock(message.server_us, nowMs);
        break;
      case "tick":
        this.#setClock(message.server_us, nowMs);
        break;
      case "fleet":
        for (const row of message.gateways) this.rows.set(row.gateway_id, row);
        this.revision += 1;
        break;
    }
  }

  #setClock(serverUs, nowMs) {
    this.serverOffsetUs = serverUs - nowMs * 1000;
  }
}
