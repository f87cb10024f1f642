import { useEffect, useState } from "react"
import { createRoot } from "react-dom/client"
import { acme } from "./acme.js"

function SignIn({ onSignedIn }) {
	const [step, setStep] = useState("password")
	const [error, setError] = useState("")

	async function submit(form) {
		try {
			if (step === "code") await acme.secondStep(form.get("code"))
			else if (!(await acme.signIn(form.get("login"), form.get("password")))) {
				setStep("code")
				return
			}
			onSignedIn(acme.login)
		} catch (error) {
			setError(error.message)
		}
	}

	return (
		<form action={submit}>
			<p role="alert">{error}</p>
			{step === "code" ? (
				<label>One-time password <input name="code" autoComplete="one-time-code" required /></label>
			) : (
				<>
					<label>Login <input name="login" autoComplete="username" required /></label>
					<label>Password <input name="password" type="password" autoComplete="current-password" required /></label>
				</>
			)}
			<button>Sign in</button>
		</form>
	)
}

function Stuff({ onSignedOut }) {
	const [items, setItems] = useState([])
	const [error, setError] = useState("")
	const load = () => acme.stuff().then(({ items }) => setItems(items))

	/** Call an action; show its error, or sign out here if the session has ended. */
	async function attempt(action) {
		setError("")
		try {
			await action()
		} catch (error) {
			if (error.status === 401) onSignedOut()
			else setError(error.message)
		}
	}

	useEffect(() => void attempt(load), [])
	const add = (form) =>
		attempt(async () => {
			await acme.addStuff(form.get("name"), Number(form.get("price")))
			await load()
		})
	const signOut = () => attempt(() => acme.signOut().then(onSignedOut))

	return (
		<>
			<p role="alert">{error}</p>
			<form action={add}>
				<label>Name <input name="name" required /></label>
				<label>Price <input name="price" type="number" min="0" step="any" required /></label>
				<button>Add</button>
			</form>
			<ul>{items.map(([name, price]) => <li key={name}>{name}: {price}</li>)}</ul>
			<button type="button" onClick={signOut}>Sign out</button>
		</>
	)
}

function App() {
	const [login, setLogin] = useState("")
	return (
		<>
			<h1>My stuff</h1>
			{login ? <Stuff onSignedOut={() => setLogin("")} /> : <SignIn onSignedIn={setLogin} />}
		</>
	)
}

createRoot(document.getElementById("root")).render(<App />)
