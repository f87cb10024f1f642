/** Who is signed in, here and in other tabs, and whether the server is there. */

import { Acme } from "./acme.js"

/** `user`: another one is signed in, or nobody; `lost`: no answer, with the error; `back`: again. */
export const events = new EventTarget()

export let me = null

/** Why one has to sign in, if there is a reason to give. */
export let reason = ""

const FIRST = 1000 // milliseconds until the server is asked again whether it is there
const LONGEST = 15_000
const tabs = new BroadcastChannel("acme")
let lost = false
let wake = () => {}
let turn = 0

class Client extends Acme {
	/** As Acme's, and notices what concerns all pages. */
	async request(method, path, parameters, options) {
		try {
			const answer = await super.request(method, path, parameters, options)
			found()
			return answer
		} catch (error) {
			if (error.status === 0 || error.status >= 502) lose(error)
			else found()
			if (error.status === 401 && !path.startsWith("/token")) ended()
			throw error
		}
	}
}

export const acme = new Client()

// who is signed in

/** After a reload: bring the session back, if there is one. */
export async function restore() {
	try {
		await acme.refresh()
		await arrive()
	} catch (error) {
		if (error.status === 401) become(null)
		else if (error.status === undefined) throw error
		else {
			events.addEventListener("back", restore, { once: true })
			lose(error) // whatever it is, there is nothing to show without
		}
	}
}

/** After a sign-in: say so, here and to the other tabs. */
export async function signedIn() {
	await arrive()
	tabs.postMessage(me?.login)
}

export async function signOut(all = false) {
	try {
		await acme.signOut(all)
	} catch (error) {
		if (error.status !== 401) throw error // else it is over already
	}
	leave("")
}

/** Forget who was signed in, here and in the other tabs. */
export function leave(why) {
	acme.forget()
	become(null, why)
	tabs.postMessage(null)
}

/** One's own profile has changed. */
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
	events.dispatchEvent(new Event("user"))
}

/** A token was refused, and there is no new one; or the cookie is somebody else's by now. */
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

// whether the server is there

function lose(error) {
	if (lost) return
	lost = true
	events.dispatchEvent(new CustomEvent("lost", { detail: error }))
	retry(error.retryAfter * 1000 || FIRST)
}

function found() {
	if (!lost) return
	lost = false
	wake()
	events.dispatchEvent(new Event("back"))
}

async function retry(pause) {
	const mine = ++turn // one at a time
	for (; lost && mine === turn; pause = Math.min(2 * pause, LONGEST)) {
		await new Promise((resolve) => setTimeout((wake = resolve), pause))
		// who is signed in is asked for in the database, which may be what is away
		if (lost) await (acme.login ? acme.helloMe() : acme.hello()).catch(() => {})
	}
}

export const retryNow = () => wake()

addEventListener("online", retryNow)
addEventListener("pageshow", ({ persisted }) => persisted && restore())
addEventListener("offline", () => acme.hello().catch(() => {}))
