/** The authenticated user, in this tab and others, and the state of the connection. */

import { Acme } from "./acme.js"

/** `user`: the user has changed; `lost`: no connection, with the error; `back`: connected again. */
export const events = new EventTarget()

export let me = null

/** Why the user has to sign in, "" without a reason. */
export let reason = ""

const FIRST_RETRY = 1000 // milliseconds; doubled for each retry
const LAST_RETRY = 15_000 // milliseconds
const tabs = new BroadcastChannel("acme")
let lost = false
let wake = () => {}
let turn = 0

class Client extends Acme {
	/** As `Acme.request`, and dispatches `events`. */
	async request(method, path, parameters, options) {
		try {
			const result = await super.request(method, path, parameters, options)
			found()
			return result
		} catch (error) {
			if (error.status === 0 || error.status >= 502) lose(error)
			else found()
			if (error.status === 401 && !path.startsWith("/token")) ended()
			throw error
		}
	}
}

export const acme = new Client()

// the authenticated user

const SESSION = "session" // the item of the storage that says that there is a session

/** Remember a setting for the next visit, such as whether there is a session. */
export function remember(name, value) {
	try {
		localStorage.setItem(name, value)
	} catch {
		// storage is blocked
	}
}

/** Restore the session after a reload, if there is one; without one the refresh would be a 401. */
export async function restore() {
	try {
		if (localStorage.getItem(SESSION) !== "on") return become(null)
	} catch {
		// storage is blocked: ask the server
	}
	try {
		await acme.refresh()
		await arrive()
	} catch (error) {
		if (error.status === 401) {
			remember(SESSION, "")
			become(null)
		} else if (error.status === undefined) throw error
		else {
			events.addEventListener("back", restore, { once: true })
			lose(error) // no view can be shown without knowing the user
		}
	}
}

/** Tell the views and the other tabs of a sign-in. */
export async function signedIn() {
	await arrive()
	tabs.postMessage(me?.login)
}

export async function signOut(all = false) {
	await hurry()
	try {
		await acme.signOut(all)
	} catch (error) {
		if (error.status !== 401) throw error // else the session has already ended
	}
	leave("")
}

/** Forget the user, in this tab and the others. */
export function leave(why) {
	acme.forget()
	remember(SESSION, "")
	become(null, why)
	tabs.postMessage(null)
}

/** Store a changed profile of the user. */
export function changed(profile) {
	if (me?.login === profile.login && me.admin === profile.admin) me = profile
	else become(profile)
}

async function arrive() {
	changed(await acme.getUser(acme.login))
}

function become(user, why = "") {
	me = user
	reason = why
	if (!user) for (const clear of delayed.keys()) clear() // is not made in the name of another user
	if (user) remember(SESSION, "on")
	events.dispatchEvent(new Event("user"))
}

/** The session has ended, or another user has signed in with this browser. */
function ended() {
	if (!me) return
	if (acme.login && acme.login !== me.login) {
		const { login } = me
		me = null
		arrive().catch(() => leave(`${login} is not signed in any more.`))
	} else leave("Your session has ended: sign in to go on.")
}

tabs.onmessage = ({ data: login }) => {
	if (login === (me?.login ?? null)) return
	acme.forget()
	become(null)
	if (login) restore()
}

// changes that can be undone before they are made

const DELAY = 10_000 // milliseconds
const delayed = new Map() // functions that stop changes, and the changes

/** Make a change after ten seconds, or at a sign-out; returns a function that stops it. */
export function later(change) {
	const stop = () => {
		clearTimeout(timer)
		delayed.delete(stop)
	}
	const timer = setTimeout(() => {
		stop()
		change()
	}, DELAY)
	delayed.set(stop, change)
	return stop
}

/** Make the delayed changes now. */
function hurry() {
	const changes = [...delayed.values()]
	for (const stop of [...delayed.keys()]) stop()
	return Promise.all(changes.map((change) => change()))
}

addEventListener("beforeunload", (event) => {
	if (!delayed.size) return
	event.preventDefault() // the browser asks whether to leave, and gives the change its time
	hurry()
})

// the connection

function lose(error) {
	if (lost) return
	lost = true
	events.dispatchEvent(new CustomEvent("lost", { detail: error }))
	retry(error.retryAfter * 1000 || FIRST_RETRY)
}

function found() {
	if (!lost) return
	lost = false
	wake()
	events.dispatchEvent(new Event("back"))
}

async function retry(pause) {
	const mine = ++turn // stops an older loop
	for (; lost && mine === turn; pause = Math.min(2 * pause, LAST_RETRY)) {
		await new Promise((resolve) => setTimeout((wake = resolve), pause))
		// with a token also checks the database
		if (lost) await (acme.login ? acme.helloMe() : acme.hello()).catch(() => {})
	}
}

export const retryNow = () => wake()

addEventListener("online", retryNow)
addEventListener("pageshow", ({ persisted }) => persisted && restore())
addEventListener("offline", () => acme.hello().catch(() => {}))
