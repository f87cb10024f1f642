/** The view of the routes without authentication, called while the user types. */

import { acme } from "./session.js"
import { card, explain, h } from "./ui.js"

const PAUSE = 250 // milliseconds without a key press before a request

/**
 * A part of the view that sends a request when its inputs have changed.
 */
function live(title, call, fields, ask) {
	const output = h("output")
	const inputs = fields.map(({ value = "", ...attributes }) => {
		const tag = attributes.rows ? "textarea" : "input"
		return Object.assign(h(tag, { autocomplete: "off", spellcheck: "false", ...attributes }), { value })
	})
	let timer, last
	const update = async () => {
		const texts = inputs.map((input) => input.value)
		const turn = (last = {}) // a response to an older input is not shown
		let text
		let bad = false
		try {
			text = texts.every((t) => t.trim()) ? await ask(...texts) : ""
		} catch (error) {
			text = explain(error)
			bad = true
		}
		if (turn !== last) return
		output.textContent = text
		output.classList.toggle("bad", bad)
	}
	const labels = inputs.map((input, i) => h("label", {}, fields[i].label, input))
	for (const input of inputs)
		input.oninput = () => {
			clearTimeout(timer)
			timer = setTimeout(update, PAUSE)
		}
	return card(title, ...labels, output, h("p", { class: "hint" }, h("code", {}, call)))
}

export function tryView() {
	const number = new Intl.NumberFormat()
	return [
		h("p", { class: "lead" }, "These work without an account, as does ", h("a", { href: "/docs" }, "the documentation of the API"), "."),
		live(
			"How old in days?",
			"await acme.days({ name, born })",
			[
				{ label: "Name", maxlength: "200" },
				{ label: "Born on", type: "date" },
			],
			async (name, born) => {
				const { days } = await acme.days({ name, born })
				return `${name} is ${number.format(days)} ${days === 1 ? "day" : "days"} old.`
			},
		),
		live(
			"Which are prime?",
			"await acme.primes(numbers)",
			[{ label: "Integers, as many as 50", inputmode: "numeric", placeholder: "2 3 4 97" }],
			async (text) => {
				const words = text.split(/[\s,;]+/).filter(Boolean)
				const odd = words.find((word) => !/^-?\d+$/.test(word))
				if (odd) throw new Error(`${odd} is not an integer`)
				const primes = await acme.primes(words.map(BigInt))
				return primes.length ? primes.join(", ") : "None of these."
			},
		),
		live(
			"How long is it?",
			"await acme.len(value)",
			[{ label: "Any JSON", rows: "3", placeholder: '["a", "list"]' }],
			async (text) => {
				let value
				try {
					value = JSON.parse(text)
				} catch {
					throw new Error("This is not JSON yet")
				}
				const { len } = await acme.len(value)
				return len === "not available" ? "It has no length." : `Its length is ${len}.`
			},
		),
	]
}
