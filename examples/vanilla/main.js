import { Acme, AcmeError } from "http://127.0.0.1:5000/www/acme.js"

// a page on another origin gets no refresh cookie: the refresh token is kept in memory
const acme = new Acme("http://127.0.0.1:5000", { cookie: false })
const find = (selector) => document.querySelector(selector)

async function show() {
	find("section").hidden = !acme.login
	find("#sign-in").hidden = Boolean(acme.login)
	const { items } = acme.login ? await acme.stuff() : { items: [] }
	find("ul").replaceChildren(
		...items.map(([name, price]) => {
			const item = document.createElement("li")
			item.textContent = `${name}: ${price}` // never innerHTML: a name is text
			return item
		}),
	)
}

/** Call an action, show its error if there is one, and then what there is. */
async function attempt(action) {
	find("[role=alert]").textContent = ""
	try {
		await action()
		await show()
	} catch (error) {
		if (!(error instanceof AcmeError)) throw error
		find("[role=alert]").textContent = error.message
	}
}

function onSubmit(selector, action) {
	find(selector).addEventListener("submit", (event) => {
		event.preventDefault()
		const form = event.target
		attempt(async () => {
			await action(Object.fromEntries(new FormData(form)))
			form.reset()
		})
	})
}

onSubmit("#sign-in", async ({ login, password }) => {
	const isComplete = await acme.signIn(login, password)
	if (!isComplete) await acme.secondStep(prompt("One-time password") ?? "")
})
onSubmit("#add", ({ name, price }) => acme.addStuff(name, Number(price)))
find("#sign-out").addEventListener("click", () => attempt(() => acme.signOut()))
