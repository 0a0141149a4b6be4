// Asks the server once, and names in words what stood in the way. No DOM.

const ANSWER_MS = 20_000;
const KNOWN = [0, 401, 403, 404, 409, 422, 503];

/** {status, body}; status 0 when no answer came. With a body it is a POST. */
export async function ask(path, body = null) {
  const sent = body === null ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    const answer = await fetch(path, { ...sent, signal: AbortSignal.timeout(ANSWER_MS) });
    return { status: answer.status, body: await answer.json() };
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || error instanceof SyntaxError)) throw error;
    return { status: 0, body: null };
  }
}

/** The key of the words for an answer that is no success; `own`: {status: key} where this question has better ones. */
export const problemKey = (status, own = {}) => own[status] ?? (KNOWN.includes(status) ? `problem_${status}` : "problem_other");
