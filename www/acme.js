/**
 * A client of Acme's API for browsers, Node.js 20 or later and Deno: a method for each operation.
 *
 *     import { Acme } from "./acme.js"
 *     const acme = new Acme("http://127.0.0.1:5000")
 *     await acme.signIn("susie", "Some-Pass-1")
 *     await acme.addStuff("pinte", 6.5)
 *
 * The access token is kept in memory only. In a browser, on the server's own origin, there is also a
 * refresh cookie: a request with an expired token is repeated with a new one, and `refresh()`
 * restores the session after a reload. Node.js, and browsers on another origin, keep no cookie:
 *
 *     const acme = new Acme("http://127.0.0.1:5000", { cookie: false })
 *
 * keeps a refresh token in memory instead. A script signs in with an API key, `{ key: "acme_…" }`.
 *
 * Each write has an idempotency key: after a network error or a 503 it is repeated, and made once.
 *
 * Each method throws AcmeError for a status from 400 up: 400 for a wrong parameter, 401 without a
 * valid session, 403 for what is not allowed, 404 for what is not found, 429 and 503 for later. Its
 * message is the server's, and can be shown. It throws NetworkError without a response.
 *
 * @module
 */

/** @typedef {[name: string, price: number]} Stuff */
/** @typedef {{stuff: string, owner: string, price: number}} OwnedStuff */
/** @typedef {object} Profile  of a user
 * @property {string} login
 * @property {string} email
 * @property {boolean} admin
 * @property {boolean} active  false for a disabled user
 * @property {boolean} otp  whether the second factor is on
 * @property {number} recovery  how many recovery codes are left */
/** @typedef {object} Session  with times in seconds since 1970
 * @property {string} id
 * @property {number} created
 * @property {number} used
 * @property {number} expires
 * @property {string} from  the address of the sign-in */
/** @typedef {"read" | "write"} Scope  GET only, or all methods */
/** @typedef {object} ApiKey  with times in seconds since 1970
 * @property {string} id
 * @property {string} name
 * @property {string} scope  `read` or `write`
 * @property {number} created
 * @property {number} expires
 * @property {number} used  the day of the last use, 0 for never */
/** @typedef {object} AuditEvent
 * @property {string} id
 * @property {number} time  in seconds since 1970
 * @property {string} event
 * @property {string | null} who  the caller, null for others unless an administrator asks
 * @property {string | null} from  the address of the caller, as `who`
 * @property {string | null} session
 * @property {string | null} key
 * @property {number} times  how often it happened */
/** @typedef {{name: string, born: string}} Person  born as 2020-07-29 */
/** @typedef {{msg: string}} Message */
/** @typedef {object} Range
 * @property {number} [limit]  1 to 1,000, which is the default
 * @property {string} [after]  a page's `next` */
/** @typedef {Range & {q?: string}} Search  `q` is a part of the name, whatever the case */
/** @template T @typedef {object} Page  of a list
 * @property {T[]} items
 * @property {string} [next]  the `after` of the next page, if there may be one */
/** @template T @typedef {{list: (range?: Range) => Promise<Page<T>>, get: (key: string) => Promise<T>,
 * add: (values: object) => Promise<any>, change: (key: string, values: object) => Promise<any>,
 * delete: (key: string) => Promise<void>}} Resource */
/** @typedef {(text: string, response: Response) => any} Read  converts the body of a response */

const TIMEOUT = 30_000 // milliseconds until the response
const TRIES = 3 // of a write
const MAX_WAIT = 5 // seconds between two of them; a server that asks for more gets no repeat
const ONCE = { repeat: false } // for a route that refuses idempotency keys
const OPEN = { repeat: false, authorization: "" } // for a write without authentication

/** The error that every method throws. */
export class AcmeError extends Error {
	/** @param {string} message  what to do
	 * @param {number} status  the HTTP status, 0 without a response
	 * @param {number} [retryAfter]  seconds to wait before the next attempt */
	constructor(message, status, retryAfter) {
		super(message)
		this.name = new.target.name
		/** The HTTP status, 0 without a response. @type {number} */
		this.status = status
		/** Seconds to wait before the next attempt. @type {number | undefined} */
		this.retryAfter = retryAfter
	}
}

/** There was no response: it is not known whether a change was made. */
export class NetworkError extends AcmeError {}

/** A user of a server, who signs in; or an API key. */
export class Acme {
	#base
	#key
	#token = ""
	#otp = "" // the token between the two steps of a sign-in
	#cookie
	#refresh = "" // the refresh token, without a cookie
	/** @type {Promise<void> | undefined} */
	#refreshing

	/** @param {string} [base]  URL of the server; by default the origin of the document
	 * @param {{cookie?: boolean, key?: string}} [options]  whether a cookie keeps the refresh token, by
	 * default true; an API key, which needs no sign-in */
	constructor(base = "", { cookie = true, key = "" } = {}) {
		this.#base = base.replace(/\/$/, "")
		this.#cookie = cookie
		this.#key = key
	}

	/** The login of the authenticated user, "" without a token. @type {string} */
	get login() {
		return this.#claim("sub")
	}

	/** The id of the current session, one of `sessions`, "" without a token. @type {string} */
	get session() {
		return this.#claim("scope")
	}

	// sign in and out

	/** Sign in.
	 * @param {string} username  the login @param {string} password
	 * @returns {Promise<boolean>}  false if a one-time password is needed: call `secondStep`
	 * @throws {AcmeError} 401 if they are wrong, 429 after too many attempts */
	async signIn(username, password) {
		const none = { authorization: "" }
		const cookie = this.#cookie
		return this.#begin(
			await this.request("POST", "/token", { username, password, cookie }, none),
		)
	}

	/** Sign in for ten minutes, without a refresh token.
	 * @param {string} username  the login @param {string} password
	 * @returns {Promise<boolean>}  as `signIn`
	 * @throws {AcmeError} 401 if they are wrong, 429 after too many attempts */
	async signInBriefly(username, password) {
		const bytes = new TextEncoder().encode(`${username}:${password}`)
		const basic = { authorization: `Basic ${btoa(String.fromCharCode(...bytes))}` }
		return this.#begin(await this.request("GET", "/token", {}, basic))
	}

	/** Complete a sign-in.
	 * @param {string} code  a one-time password @returns {Promise<void>}
	 * @throws {AcmeError} 401 if it is wrong, 429 after too many attempts */
	async secondStep(code) {
		const bearer = { authorization: `Bearer ${this.#otp}` }
		const cookie = this.#cookie
		this.#begin(await this.request("POST", "/token/otp", { code, cookie }, bearer))
	}

	/** Get a new token for the refresh token or cookie; concurrent calls share one request.
	 * @returns {Promise<void>}
	 * @throws {AcmeError} 401 if there is none, or the session has ended */
	refresh() {
		const refresh = this.#refresh || undefined
		this.#refreshing ??= this.request("POST", "/token/refresh", { refresh }, { authorization: "" })
			.then((tokens) => void this.#begin(tokens))
			.finally(() => (this.#refreshing = undefined))
		return this.#refreshing
	}

	/** End the session. @param {boolean} [all]  all sessions of the user, not only this one
	 * @returns {Promise<void>} */
	async signOut(all) {
		await this.request("DELETE", "/token", { all }, ONCE) // a repeat would be 401
		this.forget()
	}

	/** Drop the tokens, without a request. @returns {void} */
	forget() {
		this.#token = this.#otp = this.#refresh = ""
	}

	/** Who the caller is. @returns {Promise<{msg: string, user: string}>} */
	helloMe() {
		return this.request("GET", "/hello-me")
	}

	// stuff of the user

	/** One's own stuff by name. @param {Search} [range] @returns {Promise<Page<Stuff>>} */
	stuff({ limit, after, q } = {}) {
		return this.request("GET", "/stuff", { limit, after, q }, { read: page })
	}

	/** @param {string} stuff  its name @param {number} price @returns {Promise<Message>}
	 * @throws {AcmeError} 409 if the name is taken */
	addStuff(stuff, price) {
		return this.request("POST", "/stuff", { stuff, price })
	}

	/** @param {string} sid  its name @returns {Promise<OwnedStuff>}
	 * @throws {AcmeError} 403 if it is another user's, 404 if there is none */
	getStuff(sid) {
		return this.request("GET", "/stuff/{sid}", { sid })
	}

	/** @param {string} sid  its name @param {number} price
	 * @returns {Promise<{stuff: string, price: number}>}
	 * @throws {AcmeError} 403 if it is another user's, 404 if there is none */
	changeStuff(sid, price) {
		return this.request("PATCH", "/stuff/{sid}", { sid, price })
	}

	/** @param {string} sid  its name @returns {Promise<void>}
	 * @throws {AcmeError} 403 if it is another user's, 404 if there is none */
	deleteStuff(sid) {
		return this.request("DELETE", "/stuff/{sid}", { sid })
	}

	/** A resource of your own: the routes of a path such as "/note", and of "/note/{key}".
	 * @template T @param {string} path @returns {Resource<T>} */
	resource(path) {
		const one = (/** @type {string} */ key) => `${path}/${segment(key)}`
		return {
			list: ({ limit, after } = {}) =>
				this.request("GET", path, { limit, after }, { read: page }),
			add: (values) => this.request("POST", path, values),
			get: async (key) => this.request("GET", one(key)),
			change: async (key, values) => this.request("PATCH", one(key), values),
			delete: async (key) => this.request("DELETE", one(key)),
		}
	}

	// users: the own account, or as an administrator any

	/** All users by login, for administrators; `q` is a part of the login or e-mail address.
	 * @param {Search} [range] @returns {Promise<Page<Profile>>} */
	users({ limit, after, q } = {}) {
		return this.request("GET", "/user", { limit, after, q }, { read: page })
	}

	/** For administrators. @param {string} login @param {string} password @param {string} email
	 * @returns {Promise<Message>} @throws {AcmeError} 409 if the login is taken */
	addUser(login, password, email) {
		return this.request("POST", "/user", { login, password, email })
	}

	/** @param {string} login @returns {Promise<Profile>} */
	getUser(login) {
		return this.request("GET", "/user/{login}", { login })
	}

	/** @param {string} login @param {{email?: string, admin?: boolean, active?: boolean,
	 * current?: string}} changes  `current` is the password: where mails are sent, a new address of
	 * one's own takes it, and the link in a mail, until when the profile has the old one
	 * @returns {Promise<Profile>}
	 * @throws {AcmeError} 409 if no active administrator would be left */
	changeUser(login, changes) {
		return this.request("PATCH", "/user/{login}", { ...changes, login })
	}

	/** @param {string} login @param {boolean} [withStuff]  delete the user's stuff as well
	 * @returns {Promise<void>}
	 * @throws {AcmeError} 409 if the user has stuff, or is the last administrator */
	deleteUser(login, withStuff) {
		const stuff = withStuff ? "delete" : undefined
		return this.request("DELETE", "/user/{login}", { login, stuff })
	}

	/** Set a password, the own one with `current`; all sessions of the user end.
	 * @param {string} login @param {string} password  the new one
	 * @param {string} [current] @returns {Promise<void>}
	 * @throws {AcmeError} 403 if `current` is wrong, 429 after too many attempts */
	setPassword(login, password, current) {
		return this.request("PUT", "/user/{login}/password", { login, password, current }, ONCE)
	}

	/** At most 100, by the time they began: `after` is a page's `next`.
	 * @param {string} login @param {Range} [range] @returns {Promise<Page<Session>>} */
	sessions(login, { limit, after } = {}) {
		return this.request("GET", "/user/{login}/sessions", { login, limit, after }, { read: page })
	}

	/** @param {string} login @param {string} sid  its id @returns {Promise<void>} */
	endSession(login, sid) {
		return this.request("DELETE", "/user/{login}/sessions/{sid}", { login, sid })
	}

	/** API keys, without the keys themselves. @param {string} login @returns {Promise<ApiKey[]>} */
	keys(login) {
		return this.request("GET", "/user/{login}/keys", { login })
	}

	/** A new API key, for a script: send it as a bearer token. It is shown only once.
	 * @param {string} login @param {string} name @param {Scope} scope
	 * @param {string} current  the password @param {number} [days]  1 to 366, by default 90
	 * @returns {Promise<{id: string, key: string}>}
	 * @throws {AcmeError} 403 if `current` is wrong, 409 if there are 50 */
	addKey(login, name, scope, current, days) {
		return this.request(
			"POST", "/user/{login}/keys", { login, name, scope, current, days }, ONCE,
		)
	}

	/** @param {string} login @param {string} kid  its id @returns {Promise<void>} */
	deleteKey(login, kid) {
		return this.request("DELETE", "/user/{login}/keys/{kid}", { login, kid })
	}

	/** The audit trail about a user, the newest event first.
	 * @param {string} login @param {Range} [range] @returns {Promise<Page<AuditEvent>>} */
	events(login, { limit, after } = {}) {
		return this.request("GET", "/user/{login}/events", { login, limit, after }, { read: page })
	}

	/** All that is stored about a user, without secrets; `next` is the `after` of the rest, if any.
	 * @param {string} login @param {{after?: string}} [options]
	 * @returns {Promise<{data: Record<string, Record<string, any>[]>, next?: string}>} */
	exportUser(login, { after } = {}) {
		const options = { read: part }
		return this.request("GET", "/user/{login}/export", { login, after }, options)
	}

	/** A new secret for one-time passwords (TOTP): as text, as a URI, and as a QR code.
	 * @param {string} login @param {string} current  the password
	 * @returns {Promise<{secret: string, uri: string, qr: string}>}
	 * @throws {AcmeError} 403 if `current` is wrong, 409 if they are on */
	newOtp(login, current) {
		return this.request("POST", "/user/{login}/otp", { login, current }, ONCE)
	}

	/** Switch one-time passwords on with one of them, or off; a recovery code will do to switch off.
	 * On returns ten recovery codes, which are shown only once.
	 * @param {string} login @param {string} code @param {boolean} on
	 * @returns {Promise<{recovery: string[]} | void>} */
	switchOtp(login, code, on) {
		return this.request("PUT", "/user/{login}/otp", { login, code, on }, ONCE)
	}

	/** Ten new recovery codes, for a one-time password; those until now are void.
	 * @param {string} login @param {string} code @returns {Promise<{recovery: string[]}>} */
	newRecovery(login, code) {
		return this.request("POST", "/user/{login}/otp/recovery", { login, code }, ONCE)
	}

	/** Switch off another user's one-time passwords, for a lost device.
	 * @param {string} login @returns {Promise<void>} */
	resetOtp(login) {
		return this.request("DELETE", "/user/{login}/otp", { login })
	}

	// accounts by mail; a token is that of the link in a mail

	/** Ask for a mail with a link to register. @param {string} email @returns {Promise<Message>}
	 * @throws {AcmeError} 404 if nobody can register, 429 after too many */
	askRegistration(email) {
		return this.request("POST", "/registration", { email }, OPEN)
	}

	/** Register with a link.
	 * @param {string} token @param {string} login @param {string} password
	 * @returns {Promise<Message>}
	 * @throws {AcmeError} 403 if the link is not good, 409 if the login is taken: try another one */
	register(token, login, password) {
		return this.request("PUT", "/registration", { token, login, password }, OPEN)
	}

	/** Ask for a mail with a link for a new password.
	 * @param {string} login @returns {Promise<Message>}
	 * @throws {AcmeError} 404 if no mails are sent, 429 after too many */
	askReset(login) {
		return this.request("POST", "/reset", { login }, OPEN)
	}

	/** Set a new password with a link; all sessions and API keys of the user end.
	 * @param {string} token @param {string} password @returns {Promise<void>}
	 * @throws {AcmeError} 403 if the link is not good */
	resetPassword(token, password) {
		return this.request("PUT", "/reset", { token, password }, OPEN)
	}

	/** Confirm an address with a link. @param {string} token @returns {Promise<void>}
	 * @throws {AcmeError} 403 if the link is not good, 409 if another account has the address */
	confirmAddress(token) {
		return this.request("PUT", "/confirmation", { token }, OPEN)
	}

	// open to everybody

	/** With the version of FlaskSimpleAuth. @returns {Promise<{msg: string, version: string}>} */
	hello() {
		return this.request("GET", "/hello")
	}

	/** The description of the API. @returns {Promise<object>} */
	openapi() {
		return this.request("GET", "/openapi.json")
	}

	/** Count the days since a person was born.
	 * @param {Person} who @returns {Promise<{name: string, days: number}>} */
	days(who) {
		return this.request("POST", "/days", { who })
	}

	/** `days` with GET. @param {Person} who @returns {Promise<{name: string, days: number}>} */
	getDays(who) {
		return this.request("GET", "/days", { who: JSON.stringify(who) })
	}

	/** Keep the primes of integers; bigints where a number is too small.
	 * @param {(number | bigint)[]} li @returns {Promise<(number | bigint)[]>} */
	primes(li) {
		return this.request("POST", "/primes", { li: li.map(BigInt) }, { read: integers })
	}

	/** `primes` with GET.
	 * @param {(number | bigint)[]} li @returns {Promise<(number | bigint)[]>} */
	getPrimes(li) {
		return this.request("GET", "/primes", { li: li.map(BigInt) }, { read: integers })
	}

	/** The length of any JSON. @param {unknown} p @returns {Promise<{len: number | "not available"}>} */
	len(p) {
		return this.request("POST", "/len", { p })
	}

	/** `len` with GET. @param {unknown} p @returns {Promise<{len: number | "not available"}>} */
	getLen(p) {
		return this.request("GET", "/len", { p: JSON.stringify(p) })
	}

	/** Any request, for routes of your own; `{name}` in the path is replaced by that parameter.
	 * @param {string} method @param {string} path
	 * @param {object} [parameters]  the others go into the query of GET and DELETE, else into the
	 * body; undefined ones are left out
	 * @param {{authorization?: string, read?: Read, repeat?: boolean}} [options]  in place of the
	 * token, and of JSON; false for a write of which a repeat would be another one, because its
	 * route needs no authentication, or one that refuses a key
	 * @returns {Promise<any>} */
	async request(method, path, parameters = {}, { authorization, read = json, repeat = true } = {}) {
		const values = new Map(Object.entries(parameters))
		const url = this.#base + path.replace(/{(\w+)}/g, (_, name) => segment(values.get(name)))
		const others = [...values].filter(
			([name, value]) => value !== undefined && !path.includes(`{${name}}`),
		)
		const token = this.#key || this.#token
		const isKeyed = repeat && method !== "GET" && authorization === undefined && token
		const key = isKeyed ? newKey() : ""
		const cookies = this.#cookie ? "same-origin" : "omit"
		const attempt = (/** @type {string} */ header) =>
			repeated(key, () => send(method, url, others, header, read, key, cookies))
		if (authorization !== undefined) return attempt(authorization)

		if (!token) return attempt("")
		const login = this.login
		try {
			return await attempt(`Bearer ${token}`)
		} catch (error) {
			if (this.#key || !isStatus(error, 401)) throw error
		}
		if (token === this.#token) await this.refresh() // else a concurrent request has done it
		// another user may have signed in with this browser meanwhile
		if (this.login !== login) throw new AcmeError(`${login} is not signed in any more`, 401)
		return attempt(`Bearer ${this.#token}`)
	}

	/** @param {{token?: string, otp?: string, refresh?: string}} tokens  of a response
	 * @returns {boolean}  whether the sign-in is complete */
	#begin({ token = "", otp = "", refresh = "" }) {
		this.#token = token
		this.#otp = otp
		this.#refresh = refresh
		return token !== ""
	}

	/** @param {string} name */
	#claim(name) {
		if (!this.#token) return ""
		const claims = this.#token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")
		return String(JSON.parse(atob(claims))[name])
	}
}

/** One part of a path; browsers would resolve `.` and `..`. @param {unknown} value */
function segment(value) {
	if (["", ".", ".."].includes(String(value))) throw new AcmeError("nothing has such a name", 404)
	return encodeURIComponent(String(value))
}

/** @type {Read} */
const json = (text) => JSON.parse(text)

/** @param {unknown} error @param {...number} statuses @returns {error is AcmeError} */
const isStatus = (error, ...statuses) =>
	error instanceof AcmeError && statuses.includes(error.status)

/** @param {string} text @param {Response} response @returns {Page<any>} */
function page(text, response) {
	const [, link] = response.headers.get("Link")?.match(/<([^>]*)>; *rel="next"/) ?? []
	const next = link && new URL(link, "http://localhost").searchParams.get("after")
	return { items: JSON.parse(text), next: next ?? undefined }
}

/** @param {string} text @param {Response} response
 * @returns {{data: Record<string, Record<string, any>[]>, next?: string}} */
function part(text, response) {
	return { data: JSON.parse(text), next: page("[]", response).next }
}

/** @param {string} text @returns {(number | bigint)[]} */
function integers(text) {
	const digits = text.match(/-?\d+/g) ?? []
	return digits.map((n) => (Number.isSafeInteger(Number(n)) ? Number(n) : BigInt(n)))
}

/** JSON.stringify does not support bigints. @param {unknown} value */
function toJson(value) {
	const large = Array.isArray(value) && typeof value[0] === "bigint"
	return large ? `[${value}]` : JSON.stringify(value)
}

// crypto.randomUUID needs https
function newKey() {
	return Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16)).join("-")
}

/** Send a request with a key again after a network error or a 503, or if the first is in progress.
 * @template T @param {string} key @param {() => Promise<T>} attempt */
async function repeated(key, attempt) {
	const start = Date.now()
	for (let tries = 1; ; tries++) {
		try {
			return await attempt()
		} catch (error) {
			if (!isStatus(error, 0, 503, 409) || (error.status === 409 && !error.retryAfter)) throw error
			const wait = error.retryAfter ?? tries * (0.2 + Math.random() * 0.3)
			const isLate = Date.now() - start > TIMEOUT || wait > MAX_WAIT
			if (!key || tries === TRIES || isLate) throw error
			await new Promise((done) => setTimeout(done, wait * 1000))
		}
	}
}

/** Send a request; throws AcmeError unless the status is a success.
 * @param {string} method @param {string} url @param {[name: string, value: unknown][]} parameters
 * @param {string} authorization @param {Read} read @param {string} key
 * @param {RequestCredentials} credentials */
async function send(method, url, parameters, authorization, read, key, credentials) {
	/** @type {Record<string, string>} */
	const headers = { "X-Requested-With": "fetch" } // else the browser asks for a password
	if (authorization) headers.Authorization = authorization
	if (key) headers["Idempotency-Key"] = key
	let body
	if (method === "GET" || method === "DELETE") {
		const query = new URLSearchParams()
		for (const [name, value] of parameters)
			for (const one of [value].flat()) query.append(name, String(one))
		if (query.size) url += `?${query}`
	} else if (parameters.length) {
		headers["Content-Type"] = "application/json"
		body = `{${parameters.map(([name, value]) => `${toJson(name)}:${toJson(value)}`)}}`
	}

	let response, text
	try {
		const signal = AbortSignal.timeout(TIMEOUT)
		response = await fetch(url, { method, headers, body, credentials, signal })
		text = await response.text()
	} catch (error) {
		const late = error instanceof Error && error.name === "TimeoutError"
		throw new NetworkError(late ? "the server takes too long" : "the server cannot be reached", 0)
	}
	const retryAfter = Number(response.headers.get("Retry-After")) || undefined
	try {
		if (response.ok) return text ? read(text, response) : undefined
		throw new AcmeError(JSON.parse(text).error, response.status, retryAfter)
	} catch (error) {
		if (error instanceof AcmeError) throw error
		// such as an error of a proxy
		throw new AcmeError("the response was not Acme's", response.status, retryAfter)
	}
}
