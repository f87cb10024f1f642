/** The parts that views are built of. Text of users is inserted as text, never as HTML. */

/** An element: `h("button", { class: "quiet", onclick: act }, "Save")`; attributes that are false are left out. */
export function h(tag, attributes = {}, ...children) {
	const element = document.createElement(tag)
	for (const [name, value] of Object.entries(attributes)) {
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
		else if (value !== false && value !== undefined)
			element.setAttribute(name, value === true ? "" : value)
	}
	element.append(...children.filter((child) => child || child === ""))
	return element
}

const ICONS = {
	bin: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
	pen: "M4 20l1-5L16 4l4 4L9 19zM13 7l4 4",
}

export function icon(name) {
	const make = (tag, attributes) => {
		const element = document.createElementNS("http://www.w3.org/2000/svg", tag)
		for (const key in attributes) element.setAttribute(key, attributes[key])
		return element
	}
	const svg = make("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" })
	svg.append(make("path", { d: ICONS[name] }))
	return svg
}

let ids = 0
const newId = () => `id${++ids}`

/** A part of a view, with a heading. */
export function card(title, ...children) {
	const id = newId()
	return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...children)
}

/** A message at the edge of the screen; one that is no error disappears by itself. */
export function say(text, bad = false) {
	const close = h("button", { class: "quiet", onclick: () => message.remove() }, "Dismiss")
	const message = h("p", { class: bad ? "bad" : "good" }, h("span", {}, text), bad && close)
	const region = document.querySelector(`#messages [role=${bad ? "alert" : "status"}]`)
	region.replaceChildren(...(text ? [message] : []))
	if (!bad) setTimeout(() => message.remove(), 6000)
}

/** The message of an error for people. */
export function explain(error) {
	const text = error.message.replace(/^error on parameter "\w+": /, "")
	return text[0].toUpperCase() + text.slice(1)
}

/** Run `action` with its button disabled; after a `Retry-After` the button counts the seconds. */
export async function during(button, doing, action) {
	const said = button.textContent
	const focused = document.activeElement === button
	const rest = () => {
		button.disabled = false
		button.textContent = said
		// a disabled button loses the focus
		if (focused && document.activeElement === document.body) button.focus()
	}
	button.style.minWidth = `${button.offsetWidth}px`
	button.disabled = true
	button.textContent = doing
	let wait
	try {
		return await action()
	} catch (error) {
		wait = error.retryAfter
		throw error
	} finally {
		if (wait) countdown(button, wait, rest)
		else rest()
	}
}

function countdown(button, seconds, then) {
	const end = Date.now() + seconds * 1000
	const tick = () => {
		const left = Math.ceil((end - Date.now()) / 1000)
		if (left <= 0) {
			clearInterval(timer)
			then()
		} else button.textContent = `Wait ${left} s`
	}
	const timer = setInterval(tick, 500)
	tick()
}

/** As `during`, with a message for an error. */
export async function attempt(button, doing, action) {
	try {
		await during(button, doing, action)
	} catch (error) {
		if (error.status !== 401) say(explain(error), true) // the sign-in view shows it
	}
}

/**
 * A form that shows each error at the field that it is about.
 *
 * A field has a `name` (the parameter's), a `label`, optionally a `hint`, `read` (which converts the
 * text to a value, or throws an Error), and any attributes of an input. `action` gets the values.
 * `errors` maps a status to a field and optionally a text; `more` is placed beside the button.
 */
export function form({ fields, submit, doing, action, errors = {}, more = [], look = "" }) {
	const inputs = {}
	const faults = {}
	const rows = fields.map(({ name, label, hint, read, ...attributes }) => {
		const id = newId()
		const described = hint ? `${id}h ${id}e` : `${id}e`
		const input = h("input", { id, name, "aria-describedby": described, ...attributes })
		inputs[name] = Object.assign(input, { read: read ?? String, label })
		faults[name] = h("p", { class: "fault", id: `${id}e` })
		return h(
			"div",
			{ class: `field ${name}`, hidden: attributes.hidden },
			h("label", { for: id }, label),
			attributes.type === "password" ? h("span", { class: "secret" }, input, reveal(input)) : input,
			hint && h("p", { class: "hint", id: `${id}h` }, hint),
			faults[name],
		)
	})
	const button = h("button", { class: "main" }, submit)
	const general = h("p", { class: "fault", role: "alert" })

	const complain = (name, text) => {
		faults[name].textContent = text
		inputs[name].setAttribute("aria-invalid", "true")
	}
	const send = async (event) => {
		event.preventDefault()
		if (button.disabled) return
		general.textContent = ""
		const values = {}
		for (const [name, input] of Object.entries(inputs)) {
			faults[name].textContent = ""
			input.removeAttribute("aria-invalid")
			try {
				if (!input.value) throw new Error(`${input.label} is missing`)
				values[name] = input.read(input.value)
			} catch (error) {
				complain(name, error.message)
			}
		}
		const first = () => element.querySelector("[aria-invalid]")
		if (first()) return first().focus()
		try {
			await during(button, doing, () => action(values))
		} catch (error) {
			const [, named] = error.message.match(/^(?:error on parameter ")?(\w+)/) ?? []
			const [name, text] = errors[error.status] ?? [named]
			const place = inputs[named] ? named : name
			if (!inputs[place]) general.textContent = text ?? explain(error)
			else {
				const own = place === name && text
				complain(place, own || explain(error).replace(new RegExp(`^${place}`, "i"), inputs[place].label))
				inputs[place].focus()
			}
		}
	}
	const element = h(
		"form",
		{ class: look, novalidate: true, onsubmit: send },
		...rows,
		h("div", { class: "buttons" }, button, ...more),
		general,
	)
	return element
}

/** A button that shows or hides a password. */
function reveal(input) {
	const toggle = () => {
		const shown = input.type === "text"
		input.type = shown ? "password" : "text"
		button.setAttribute("aria-pressed", String(!shown))
	}
	const attributes = { type: "button", class: "quiet", "aria-pressed": "false", onclick: toggle }
	const button = h("button", attributes, "Show", h("span", { class: "unseen" }, " the password"))
	return button
}

/** A modal dialog, removed when it closes. */
export function dialog(title, ...children) {
	const id = newId()
	const element = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), ...children)
	element.addEventListener("close", () => element.remove())
	document.body.append(element)
	element.showModal()
	return element
}

/** Ask for a confirmation; resolves to whether it was given. */
export function confirm(title, text, yes) {
	return new Promise((resolve) => {
		const no = h("button", { autofocus: true, onclick: () => box.close() }, "Cancel")
		const go = h("button", { class: "danger", onclick: () => box.close("yes") }, yes)
		const box = dialog(title, h("p", {}, text), h("div", { class: "buttons" }, go, no))
		box.addEventListener("close", () => resolve(box.returnValue === "yes"))
	})
}

/**
 * The rows of a list in the order of their `name`: `put` one there, made by `make` if it is new.
 *
 * @param {HTMLElement} list
 */
export function sorted(list, make) {
	const find = (name) => [...list.children].find((row) => row.name === name)
	const put = (name) => {
		const row = find(name) ?? Object.assign(make(name), { name })
		if (!row.isConnected) {
			const later = list.lastChild?.name > name
			list.insertBefore(row, later ? [...list.children].find((r) => r.name > name) : null)
		}
		return row
	}
	return { find, put }
}

/**
 * The end of a list, which loads the next page when scrolled into view or pressed, until `signal`.
 *
 * `load` gets the `after` of the page; a page that failed is loaded when the connection is back.
 */
export function pager(load, show, events, signal) {
	let after, failed, loading
	const fault = h("p", { class: "fault", role: "alert" })
	const button = h("button", { onclick: () => more() }, "Show more")
	// a busy browser reports several changes in one call: the last one is the current state
	const watch = new IntersectionObserver((changes) => changes.at(-1).isIntersecting && more(), {
		rootMargin: "300px",
	})
	const more = async () => {
		if (loading || signal.aborted) return
		loading = true
		watch.disconnect()
		fault.textContent = ""
		try {
			const page = await during(button, "Loading…", () => load(after))
			show(page.items)
			after = page.next
			failed = false
			button.hidden = after === undefined
			if (!button.hidden) watch.observe(button) // loads more at once if it is still in view
		} catch (error) {
			failed = true
			fault.textContent = explain(error)
		} finally {
			loading = false
		}
	}
	events.addEventListener("back", () => failed && more(), { signal })
	signal.addEventListener("abort", () => watch.disconnect())
	more()
	return h("div", { class: "more" }, fault, button)
}
